//! What our placement leaves on the table: the same problems solved by `placement` and exactly.
//!
//! - [`Problem`]: an empty fleet and work for it, small enough to be solved exactly, or large.
//! - [`ours()`]: `placement` as the product uses it, and in other orders of the work.
//! - [`optimum()`]: a mixed-integer program of it, by a solver; [`bound()`]: what no placement can be better than.
//! - [`brute_force()`]: everything tried, to check the solver on tiny problems.
//! - [`fewest_nodes()`]: the same for one gang and the nodes that it needs.
//!
//! Floats are for here alone: none is in the product.

mod brute;
mod exact;
mod gang;
mod ours;
mod problem;
mod random;

pub use brute::brute_force;
pub use exact::{Optimum, bound, optimum};
pub use gang::{OneGang, fewest_nodes};
pub use ours::{Order, ours};
pub use problem::{Node, Problem, Work};
pub use random::{Kind, Random, fitting, large, one_gang, small, tiny};
