//! Who is next, and what a round makes of it.

mod claims;
mod cut;
mod evictions;
mod facts;
mod fleet;
mod histories;
mod laws;
mod reference;
mod textbook;
