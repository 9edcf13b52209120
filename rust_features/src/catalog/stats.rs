//! Statistics of returns and log closes: shape, memory, tails, roughness.

use super::declare::group;

group! {
    "stats", x;

    indicators {
    }

    features {
    }
}
