//! The replicated state machine: [`apply`] takes a [`State`] and an entry of the log and gives effects.
//!
//! It owns every truth that is kept in the log: jobs, steps, tasks, attempts, claims, nodes, queues and what is used in them,
//! submission keys, tokens, revocations, the cluster version. It must not search, fail, read a clock, draw a random number,
//! do IO, or know about placement.
//!
//! # Rules of a job
//! - A step is complete once the number of its tasks is known and all of them are done. A job ends when all its steps are
//!   complete.
//! - A task becomes ready when every need of kind `all` of its step is complete (and the jobs named by `after` have
//!   succeeded), and, where its step follows another task by task, when that task has succeeded. It is skipped when the task
//!   it follows did not succeed.
//! - A task that ends failed in a step with `on_failure = "stop"` stops its job: what was not placed is cancelled at once,
//!   what is active is asked to stop. With `"continue"` its siblings go on and joins proceed.
//! - A stopped job ends as what it was stopped as. Another one ends failed if a task failed in a step that no other step
//!   needs (nobody could have taken the failure into account), and succeeded otherwise.
//! - A job that waits for another one fails, with all its tasks skipped, when that one does not succeed.
//!
//! # Rules of an attempt
//! - Only a desired attempt can publish: a success reported after the attempt was asked to stop counts as stopped.
//! - An attempt of a gang is over when all its members are; the first that does not succeed stops the others, unless it was lost
//!   through no fault of the user's and its step lets the gang go on: then its rank is open until another has it, or its time is up.
//! - A failure blamed on the user spends a retry. Everything else does not, and is tried again up to
//!   [`limits::UNBLAMED_ATTEMPTS`](flowyard_model::limits::UNBLAMED_ATTEMPTS) times; being preempted is not even counted.
//!
//! # Rules of claims
//! - Nothing is evicted but with a claim: room that a ready task is promised, and that its evictions free. A claim is taken whole
//!   or refused whole, and its room is kept from all others until its task is placed, or it falls.
//! - Attempts are evicted for a task of their queue with a higher priority, or for one of another queue; never within the time
//!   that their contract gives them, never what is not preemptible, and a task at most
//!   [`limits::RELOCATIONS`](flowyard_model::limits::RELOCATIONS) times. It is no failure and spends no retry.
//!
//! # Rules of what is beside what
//! - A step that is spread has no more members in a domain than it says, where it says so; one with `unique_host` has one on a node.
//! - Of a job, and on a node, no more members are placed and do not run yet than the policy says, where it says so; a gang may be more where it is
//!   alone, and what has a claim is not asked.
//! - Of a token that the policy counts, no placement lets more be held in all queues than there are; no node is asked for it.
//! - On no node do two attempts of one tenant (whose queues are in one tree) live one of which keeps apart from a tag of the other's job,
//!   whichever came first.
//! # Rules of nodes
//! - What fails on a node through the fault of the platform or the hardware is held against the node, and so is its loss, unless
//!   it was closed. What is held fades by time. Who has much against it is avoided, or shunned: placement does the former, a plan
//!   that goes against the latter is refused. What users do wrong is held against no node.
//!
//! # Rules of the mix
//! - Once in a period of five minutes, before its first entry, it is looked at what the work asks for of devices; of what that comes to placement is told.
//!
//! # Work per entry
//! Every entry is linear in what it names (placements, reports) times the steps of a job, with these exceptions, each
//! linear and cheap: stopping a job in its touched tasks that are not done; a node that goes down, or whose drain falls due, in its live members;
//! releasing a step that follows another one task by task, and had other needs beside, in the tasks that one has finished;
//! the first entry of a period of five minutes, in the kinds of devices that are asked for;
//! an account that was not touched for long, in the hours that passed, of no more days than it keeps; a queue that is put,
//! in the queues of its tree; a placement of a step that is spread, in the nodes on which that
//! step runs, and one where somebody keeps apart from somebody, in what lives on its nodes; the entry that raises the cluster version to 2, and a policy that is put, in all that lives.
//! What could cascade without bound (jobs waiting for jobs, things falling due) is done up to
//! [`limits::WORK_PER_TICK`](flowyard_model::limits::WORK_PER_TICK), and the rest by the next `Tick`, which is due at once.
#![deny(clippy::float_arithmetic)]

mod accept;
mod access;
mod after;
mod apply;
mod attempt;
mod beside;
mod check;
mod check_claims;
mod check_surgery;
mod claims;
mod closing;
mod decay;
mod device;
mod differences;
mod discredit;
mod durations;
mod evict;
#[cfg(test)]
mod fixture;
mod forget;
mod graph;
mod holding;
mod indexes;
mod job;
mod ledger;
mod mix;
mod near;
mod node;
mod overdue;
mod past;
mod plan;
mod promises;
mod queue;
mod reading;
mod records;
mod report;
mod reserve;
mod retry;
mod room;
mod secret;
mod shape;
mod shared;
mod starting;
mod state;
mod step;
mod still;
mod submit;
mod surgery;
mod task;
mod tick;
mod withdrawn;

pub use apply::apply;
pub use check::{Violation, check_all};
pub use differences::Differences;
pub use discredit::points_at;
pub use durations::Basis;
pub use holding::{Measure, Reached};
pub use indexes::{Load, Portion, ReadyGroup, ReadyStep, fingerprint};
pub use ledger::{UsedSpan, as_of, decayed_at};
pub use reading::{Outline, Ref};
pub use records::RecordError;
pub use state::{State, StepKey, View};
