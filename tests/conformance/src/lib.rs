//! Suites that every implementation of a seam must pass, as library functions.

pub mod blob_store;
pub mod log_engine;
pub mod runtime;
