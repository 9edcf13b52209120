//! The reference symbol: what the whole market did.

use super::declare::group;

group! {
    "cross", x;

    indicators {
    }

    features {
    }
}
