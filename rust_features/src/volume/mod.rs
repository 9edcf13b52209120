//! Volume: how much was traded, on which side, at which price.
