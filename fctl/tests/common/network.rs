//! Hosts with a network of their own on one machine, as the chaos suite makes them.

pub use flowyard_chaos::Network;
