//! Placeholder for flowyard-sim.
