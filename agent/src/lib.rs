//! The agent: keeps what runs on one node in step with what the coordinator desires.
//!
//! Reading order: [`reconcile`] (the decision), [`session`] (what is said), then the actors around them: `reconciler`, `link`,
//! `attempt`, `launches`; below them the launcher, a process of its own that outlives the agent, and [`runtime`], which alone
//! names container libraries.

mod agent;
pub mod attempt;
pub mod backoff;
pub mod cgroup;
mod config;
mod counts;
mod diagnosing;
mod exec;
pub mod fleet;
pub mod image;
pub mod inventory;
mod journal;
pub mod launcher;
mod launches;
mod lease;
mod link;
pub mod logs;
mod network;
mod numbers;
mod outgoing;
pub mod reconcile;
mod reconciler;
mod relay;
mod remover;
pub mod runtime;
pub mod session;
mod tasks;
mod users;

pub use agent::{Agent, AgentError};
pub use config::{AgentConfig, BadUsers, EmbeddedChoices};
pub use journal::remembers_from;
pub use network::{Net, NetworkChoices, NoNet, NoPool, Pool};
pub use users::{NoSpan, Span, SpanTaken};
