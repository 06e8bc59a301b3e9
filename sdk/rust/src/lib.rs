//! What a program needs to use a Flowyard cluster: flow files, values of flags, and the client of the API.
//!
//! | Module | Owns |
//! |---|---|
//! | [`client`] | calls to a cluster, uploads and downloads |
//! | [`flow`] | the flow file: reading, checking, and making a job spec of it |
//! | [`flags`] | the same words as values of command-line flags |
//! | [`policy_file`] | the file that the policy is put with |
//! | [`queue_file`] | the file that queues are put with |
//! | [`units`] | quantities: sizes, times, CPUs |
//! | [`shown`] | foreign text made harmless for a terminal |

pub mod client;
pub mod flags;
pub mod flow;
pub mod policy_file;
pub mod queue_file;
pub mod shown;
pub mod units;
