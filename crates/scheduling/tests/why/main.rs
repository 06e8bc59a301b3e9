//! Explanations: every number is counted again from the records, and every fix is carried out.

mod laws;
mod line;
mod random;
mod scenes;
mod slow;
mod world;
