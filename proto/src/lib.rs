//! Placeholder for flowyard-proto.
