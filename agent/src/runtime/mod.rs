//! The ways an attempt is run. The only module that names container libraries.

pub mod spec;
