//! Black-box and house tests, in one binary.
