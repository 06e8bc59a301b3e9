//! The words of Flowyard as plain data.
//!
//! No IO, no async, no wire types, no clock, no randomness. Everything kept in the replicated state, and every command that
//! changes it, is defined here; `proto` alone converts between these types and bytes.

mod digest;

pub use digest::{Digest, DigestError};
