//! Trend: which way a series goes, how strongly and for how long.
