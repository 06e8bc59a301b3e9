//! Notices silence: a node not heard from is suspect within seconds, and down by policy. Only the conclusions enter the log.
//!
//! It starts with a new leader, which has heard from nobody: every node gets a grace period as if heard from just then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flowyard_model::{Command, Health, Incarnation, NodeId};
use flowyard_state::View;
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};

use crate::config::Timing;
use crate::feed::Feed;
use crate::proposer::Proposer;

/// When each node was last heard from, in milliseconds of boot time. Written by sessions at each message; a lock rather than
/// a mailbox, since a stuck mailbox would look like silence.
#[derive(Debug, Clone)]
pub struct Heard {
    at: Arc<Mutex<BTreeMap<NodeId, u64>>>,
}

impl Heard {
    /// Nobody was heard from.
    pub fn nobody() -> Self {
        Self { at: Arc::new(Mutex::new(BTreeMap::new())) }
    }

    /// A node gave a sign of life.
    pub fn mark(&self, node: NodeId) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).insert(node, flowyard_clock::boot_ms());
    }

    fn snapshot(&self) -> BTreeMap<NodeId, u64> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What should be concluded about nodes, and when to look again. Pure.
///
/// `since_ms` is when this leader began to listen; times are boot time in milliseconds.
pub fn conclusions(
    view: &View,
    heard: &BTreeMap<NodeId, u64>,
    timing: &Timing,
    since_ms: u64,
    now_ms: u64,
) -> (Vec<(NodeId, Incarnation, Health)>, u64) {
    let mut wanted = Vec::new();
    let mut again_in = timing.suspect_ms;
    for (id, node) in view.nodes() {
        let last = heard.get(&id).copied().unwrap_or(since_ms).max(since_ms);
        let silent = now_ms.saturating_sub(last);
        let health = match silent {
            silent if silent >= timing.down_ms => Health::Down,
            silent if silent >= timing.suspect_ms => Health::Suspect,
            _ => Health::Up,
        };
        // A node that was given up comes back only by registering anew.
        if node.health != Health::Down && node.health != health {
            wanted.push((id, node.incarnation, health));
        }
        for bound in [timing.suspect_ms, timing.down_ms] {
            if silent < bound {
                again_in = again_in.min(bound - silent);
            }
        }
    }
    (wanted, again_in.max(1))
}

/// The actor. It has no messages.
pub struct Liveness {
    proposer: Proposer,
    feed: Feed,
    heard: Heard,
    timing: Timing,
    since_ms: u64,
}

impl Liveness {
    /// What it is made from, anew at each term.
    pub fn new(proposer: Proposer, feed: Feed, heard: Heard, timing: Timing) -> Self {
        Self { proposer, feed, heard, timing, since_ms: flowyard_clock::boot_ms() }
    }

    /// When this process itself did not run (it was stopped, or the machine slept), the silence was ours: nodes get their grace
    /// period anew.
    fn forgive_own_pause(&mut self, planned_ms: u64) {
        let now_ms = flowyard_clock::boot_ms();
        if now_ms.saturating_sub(planned_ms) > self.timing.suspect_ms / 2 {
            tracing::warn!(
                late_ms = now_ms - planned_ms,
                "this process did not run for a while; nodes get a grace period"
            );
            self.since_ms = now_ms;
        }
    }

    /// Proposes what is due and says when to look again, in milliseconds.
    async fn look(&self) -> u64 {
        let (view, heard) = (self.feed.view(), self.heard.snapshot());
        let (wanted, again_in) = conclusions(&view, &heard, &self.timing, self.since_ms, flowyard_clock::boot_ms());
        for (node, incarnation, health) in wanted {
            tracing::info!(%node, ?health, "concluded about a node");
            let command = Command::SetNodeHealth { node, incarnation, health };
            if let Err(error) = self.proposer.propose(&command).await {
                tracing::warn!(%node, %error, "a conclusion about a node was not taken");
            }
        }
        again_in
    }
}

impl Actor for Liveness {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }

    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            let again_in = self.look().await;
            let planned_ms = flowyard_clock::boot_ms() + again_in;
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                () = tokio::time::sleep(Duration::from_millis(again_in)) => {}
            }
            self.forgive_own_pause(planned_ms);
        }
    }
}
