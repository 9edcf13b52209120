//! Market structure: ranges, swings, divergences, pivot levels.

use super::declare::group;

group! {
    "structure", x;

    indicators {
    }

    features {
    }
}
