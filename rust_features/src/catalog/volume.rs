//! Volume: how much, on which side, at which price.

use super::declare::group;

group! {
    "volume", x;

    indicators {
    }

    features {
    }
}
