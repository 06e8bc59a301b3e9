//! Keeps ready work placed: asks the solver what to do with a view, and proposes its answer.

pub mod bridge;
