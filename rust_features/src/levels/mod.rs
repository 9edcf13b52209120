//! Levels: the highs and lows a market has left behind.
