//! Placeholder for flowyard-conformance.
