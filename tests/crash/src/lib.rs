//! Power cuts under what the product keeps on disk.
//!
//! Owns a disk in memory that knows what was synced ([`Medium`]), mounted by FUSE ([`Mounted`]), and chains of runs over it
//! ([`Chain`]): a writer process goes on through the product's own code and says what it was promised; the power is cut, or
//! the disk fails, at a moment nobody chose; the next process opens what is left and must find every promise kept.
//! Must not: know how the product stores anything.
//!
//! To read: `medium`, `cut`, `mount`, `chain`, `writers`.

mod chain;
mod cut;
mod dice;
mod medium;
mod mount;
pub mod writers;

pub use chain::{Chain, End, Report};
pub use cut::Loss;
pub use dice::Dice;
pub use medium::{Faults, Medium, Refused};
pub use mount::{Mounted, missing};
