//! Volatility: how far prices move, and how that compares with before.

use super::declare::group;

group! {
    "volatility", x;

    indicators {
    }

    features {
    }
}
