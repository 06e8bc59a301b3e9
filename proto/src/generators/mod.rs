//! Random values of every model type, for property tests here and elsewhere.
//!
//! They keep what the contract asks (names are names, an end exactly when ended) and nothing else: specs need not be sensible.

mod access;
mod commands;
mod past;
mod records;
mod spec;

use flowyard_model::{
    AttemptNumber, Digest, Epoch, Incarnation, JobId, MemberKey, Name, NodeId, QueuePath, Rank, StepIndex, TaskIndex,
    TaskKey, TimeMs,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

pub use access::*;
pub use commands::*;
pub use past::*;
pub use records::*;
pub use spec::*;

/// One of the variants of a closed enum.
macro_rules! one_of {
    ($name:ident { $($variant:ident),+ $(,)? }) => {
        proptest::sample::select(vec![$(flowyard_model::$name::$variant),+])
    };
}
use one_of;

/// A name.
pub fn name() -> BoxedStrategy<Name> {
    "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,12}".prop_map(|text| text.parse().expect("the pattern is that of names")).boxed()
}

/// A queue path of up to three parts.
pub fn queue_path() -> BoxedStrategy<QueuePath> {
    let joined = vec(name(), 1..4).prop_map(|names| names.iter().map(Name::as_str).collect::<Vec<_>>().join("/"));
    joined.prop_map(|text| text.parse().expect("names joined by slashes are a path")).boxed()
}

/// Any text that fits its field.
pub fn text() -> BoxedStrategy<String> {
    "\\PC{0,16}".boxed()
}

/// A digest; of no particular blob.
pub fn digest() -> BoxedStrategy<Digest> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(hash, length)| Digest { hash, length }).boxed()
}

/// Some values by name.
pub fn by_name<T: std::fmt::Debug>(
    values: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = std::collections::BTreeMap<Name, T>> {
    btree_map(name(), values, 0..4)
}

/// A time.
pub fn time() -> impl Strategy<Value = TimeMs> {
    any::<u64>().prop_map(TimeMs)
}

/// A job's id.
pub fn job_id() -> impl Strategy<Value = JobId> {
    any::<u64>().prop_map(JobId)
}

/// A node's id.
pub fn node_id() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(NodeId)
}

/// A registration.
pub fn incarnation() -> impl Strategy<Value = Incarnation> {
    any::<u64>().prop_map(Incarnation)
}

/// A task's key.
pub fn task_key() -> impl Strategy<Value = TaskKey> {
    let parts = (job_id(), any::<u32>(), any::<u32>());
    parts.prop_map(|(job, step, task)| TaskKey { job, step: StepIndex(step), task: TaskIndex(task) })
}

/// A member's key.
pub fn member_key() -> impl Strategy<Value = MemberKey> {
    let parts = (task_key(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    parts.prop_map(|(task, attempt, rank, epoch, replacement)| {
        let (attempt, rank, epoch) = (AttemptNumber(attempt), Rank(rank), Epoch(epoch));
        MemberKey { task, attempt, rank, epoch, replacement }
    })
}
