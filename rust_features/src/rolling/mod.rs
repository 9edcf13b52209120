//! What falls out of a ring is the primitive: windows over the last n values and what is computed from them.
//!
//! Everything here is a function of the values inside the window alone (long sums: and of the absolute number of the bar). Sums are
//! made anew, in a fixed order, so a value that has left the window has left no residue, and two histories that
//! agree on the window agree on every bit. What was not seen yet is NaN.

mod age;
mod lag;
mod long_maximum;
mod long_sums;
mod maxima;
mod ring_sums;
mod run;
mod signs;
mod sorted;
mod sum;
mod window;

pub use age::Age;
pub use lag::Lag;
pub use long_maximum::LongMaximum;
pub use long_sums::LongSums;
pub use maxima::{Widening, extent};
pub use ring_sums::RingSums;
pub use run::Run;
pub use signs::SignSum;
pub use sorted::Sorted;
pub use sum::{Sum, joined, mean, path, sum, sum_of, sum_of_pairs};
pub use window::Window;
