//! Higher timeframes: the hour, four hours and the day, at 15 minutes.

use super::declare::group;

group! {
    "mtf", x;

    indicators {
    }

    features {
    }
}
