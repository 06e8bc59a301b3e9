//! Placeholder for flowyard-coordinator.
