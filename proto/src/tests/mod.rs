//! What holds for all conversions: nothing is lost, nothing wrong gets in, nothing panics.

mod bytes;
mod round_trip;
mod snapshots;
mod strictness;
mod views;
