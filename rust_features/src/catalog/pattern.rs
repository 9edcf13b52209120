//! Candle patterns, graded by size.

use super::declare::group;

group! {
    "pattern", x;

    indicators {
    }

    features {
    }
}
