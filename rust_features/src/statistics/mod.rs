//! Statistics of the returns: shape, memory, roughness.
