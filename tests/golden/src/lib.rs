//! What every release wrote, and what must become of it for ever: a log, a snapshot, the digest of the state both lead to, and
//! the wire contract.
//!
//! A folder per release beside this crate's sources. `UPDATE=1 cargo test -p flowyard-golden` writes the folder of the present
//! version from [`script`]; at a release it is committed, and from then on never changed.

pub mod contract;
mod history;
mod parts;
pub mod release;

pub use history::script;
