//! Placeholder for flowyard-golden.
