//! Trend: strength, direction, regression lines.

use super::declare::group;

group! {
    "trend", x;

    indicators {
    }

    features {
    }
}
