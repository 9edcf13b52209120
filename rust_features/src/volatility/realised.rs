//! Realised variance over several lengths.

/// Bars in a block.
const BLOCK: usize = 16;
/// Lengths of the windows, ascending; whole blocks.
const LENGTHS: [usize; 3] = [48, 336, 480];
/// Whole blocks that the longest needs behind the open one.
const BLOCKS: usize = LENGTHS[2] / BLOCK - 1;

/// Σr² over 48, 336 and 480 bars. Each is warm with as many returns.
///
/// It is [`crate::rolling::BlockSums`] of several lengths, which share the blocks and the moment at which their ends enter another.
///
/// ```
/// use candlecast_features::{rolling::Window, volatility::Realised};
///
/// let (mut returns, mut realised) = (Window::<480, 544>::new(), Realised::new());
/// for bar in 1_000..1_400 {
///     returns.push(0.5);
///     let squares = realised.update((bar, |lag| returns.lag(lag)));
///     assert_eq!(squares, Some([(bar >= 1_047).then_some(12.0), (bar >= 1_335).then_some(84.0), None]));
/// }
/// ```
#[derive(Clone, Debug, Default, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Realised {
    seen: usize,
    open: f64,
    /// Of the whole blocks of each window.
    middles: [f64; 3],
    /// Of what each window holds of its oldest block, by the bars in the open one.
    rests: [[f64; 3]; BLOCK],
    /// Newest first.
    blocks: [f64; BLOCKS],
}

impl Realised {
    /// A variance that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the newest bar. `bar` is its absolute number, `r(lag)` the return `lag` bars before it (`None`: before the first).
    #[inline(always)]
    pub fn update(&mut self, (bar, r): (u64, impl Fn(usize) -> Option<f64>)) -> Option<[Option<f64>; 3]> {
        let newest = r(0)?;
        self.seen = (self.seen + 1).min(LENGTHS[2]);
        self.open += newest * newest;
        let in_open = (bar as usize + 1) % BLOCK;
        if in_open == 0 {
            self.turn(r);
        }
        let sum = |i: usize| self.middles[i] + self.open + self.rests[in_open][i];
        Some([0, 1, 2].map(|i| (self.seen >= LENGTHS[i]).then(|| sum(i))))
    }

    /// The open block is full, and the windows' ends enter another block.
    fn turn(&mut self, r: impl Fn(usize) -> Option<f64>) {
        self.blocks.copy_within(..BLOCKS - 1, 1);
        self.blocks[0] = std::mem::take(&mut self.open);
        let (mut middle, mut whole) = (0.0, 0);
        for (i, n) in LENGTHS.into_iter().enumerate() {
            let mut rest = 0.0;
            for k in 0..BLOCK {
                let old = r(n - BLOCK + k).unwrap_or(0.0);
                rest += old * old;
                self.rests[BLOCK - 1 - k][i] = rest;
            }
            middle += self.blocks[whole..n / BLOCK - 1].iter().sum::<f64>();
            whole = n / BLOCK - 1;
            self.middles[i] = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, walk};
    use crate::rolling::Window;

    fn sums(first_bar: u64, xs: &[f64]) -> Vec<[Option<f64>; 3]> {
        let (mut window, mut realised) = (Window::<480, 512>::new(), Realised::new());
        let mut step = |(bar, x): (u64, &f64)| {
            window.push(*x);
            realised.update((bar, |lag| window.lag(lag))).unwrap()
        };
        (first_bar..).zip(xs).map(&mut step).collect()
    }

    #[test]
    fn are_the_plain_sums_bit_equal_from_every_start() {
        let xs = walk(65, 700);
        for first_bar in [0, 1, 15, 16, 1_888_889] {
            let all = sums(first_bar, &xs);
            for (i, sums) in all.iter().enumerate() {
                for (sum, n) in sums.iter().zip(LENGTHS) {
                    let plain = (i + 1).checked_sub(n).map(|from| xs[from..=i].iter().map(|x| x * x).sum());
                    assert_eq!(sum.is_some(), plain.is_some());
                    assert_close(sum.unwrap_or(0.0), plain.unwrap_or(0.0), 1e-12);
                }
            }
            for start in [1, 2, 15, 16, 17, 100] {
                for (part, whole) in sums(first_bar + start as u64, &xs[start..]).iter().zip(&all[start..]) {
                    assert!(part.iter().zip(whole).all(|(part, whole)| part.is_none() || part == whole));
                }
            }
        }
    }

    #[test]
    fn a_huge_return_leaves_no_residue() {
        let mut xs = walk(66, 700);
        let plain = sums(0, &xs);
        xs[100] = 1e100;
        let after = sums(0, &xs);
        for (i, n) in LENGTHS.into_iter().enumerate() {
            assert_ne!(plain[99 + n][i], after[99 + n][i]);
            assert!((100 + n..700).all(|bar| plain[bar][i] == after[bar][i]));
        }
    }

    #[test]
    fn a_flat_market_has_none() {
        assert_eq!(sums(7, &[0.0; 500])[499], [Some(0.0); 3]);
    }
}
