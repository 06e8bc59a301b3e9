//! Notices silence: a node not heard from is suspect within seconds, and down by policy. Only the conclusions enter the log.
//!
//! It starts with a new leader, which has heard from nobody: every node gets a grace period as if heard from just then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flowyard_model::{Command, Health, Incarnation, NodeId};
use flowyard_state::View;
use futures::StreamExt;
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};

use crate::config::Timing;
use crate::evidence::Evidence;
use crate::feed::Feed;
use crate::proposer::Proposer;
use crate::session::Pace;

/// Conclusions proposed at a time.
const AT_ONCE: usize = 64;

/// When each node was last heard from, and which were given up. Pure.
///
/// Invariant: from the moment that a node is concluded to be down, nothing it says in that registration counts, whenever the
/// conclusion comes into the log. Otherwise its lease would be renewed while its tasks are placed again.
#[derive(Debug, Clone, Default)]
pub struct LastHeard {
    at: BTreeMap<NodeId, u64>,
    given_up: BTreeMap<NodeId, Incarnation>,
}

impl LastHeard {
    /// A node gave a sign of life in this registration; whether it counts.
    pub fn mark(&mut self, node: NodeId, incarnation: Incarnation, now_ms: u64) -> bool {
        let counts = self.given_up.get(&node).is_none_or(|given_up| incarnation > *given_up);
        if counts {
            self.at.insert(node, now_ms);
        }
        counts
    }

    /// A node is to be concluded down because nothing was heard after `last_ms`; whether that is still so.
    pub fn give_up(&mut self, node: NodeId, incarnation: Incarnation, last_ms: Option<u64>) -> bool {
        let silent = self.at.get(&node).copied() == last_ms;
        if silent {
            self.given_up.insert(node, incarnation);
        }
        silent
    }

    /// A leader begins: what an earlier one concluded is in the state by now, or never will be.
    pub fn begin(&mut self) {
        self.given_up.clear();
    }

    /// When each node was last heard from.
    pub fn at(&self) -> &BTreeMap<NodeId, u64> {
        &self.at
    }
}

/// [`LastHeard`], in milliseconds of boot time. Written by sessions at each message; a lock rather than a mailbox, since a stuck
/// mailbox would look like silence.
#[derive(Debug, Clone)]
pub struct Heard {
    last: Arc<Mutex<LastHeard>>,
}

impl Heard {
    /// Nobody was heard from.
    pub fn nobody() -> Self {
        Self { last: Arc::new(Mutex::new(LastHeard::default())) }
    }

    /// A node gave a sign of life in this registration; whether it counts.
    #[must_use]
    pub fn mark(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.lock().mark(node, incarnation, flowyard_clock::boot_ms())
    }

    fn lock(&self) -> MutexGuard<'_, LastHeard> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
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
        // A node that was given up comes back only by registering anew; one that is suspect only by a sign of life, and not because
        // silence begins to count anew.
        let came_back = heard.get(&id).is_some_and(|at| now_ms.saturating_sub(*at) < timing.suspect_ms);
        let pardoned = node.health == Health::Suspect && health == Health::Up && !came_back;
        if node.health != Health::Down && node.health != health && !pardoned {
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

/// Since when silence counts, at a look that was planned for `planned_ms` and is made now. A look that is late means that this
/// process did not run (it was stopped, the machine slept, the log stood still): the silence was its own.
pub fn listening_since(since_ms: u64, timing: &Timing, planned_ms: u64, now_ms: u64) -> u64 {
    if now_ms.saturating_sub(planned_ms) > timing.suspect_ms / 2 { now_ms } else { since_ms }
}

/// The actor. It has no messages.
pub struct Liveness {
    proposer: Proposer,
    feed: Feed,
    heard: Heard,
    evidence: Evidence,
    pace: Pace,
    since_ms: u64,
}

impl Liveness {
    /// What it is made from, anew at each term.
    pub(crate) fn new(proposer: Proposer, feed: Feed, heard: Heard, evidence: Evidence, pace: Pace) -> Self {
        heard.lock().begin();
        Self { proposer, feed, heard, evidence, pace, since_ms: flowyard_clock::boot_ms() }
    }

    /// When this process itself did not run, nodes get their grace period anew.
    fn forgive_own_pause(&mut self, planned_ms: u64) {
        let now_ms = flowyard_clock::boot_ms();
        let since_ms = listening_since(self.since_ms, &self.pace.timing(), planned_ms, now_ms);
        if since_ms != self.since_ms {
            tracing::warn!(
                late_ms = now_ms - planned_ms,
                "this process did not run for a while; nodes get a grace period"
            );
            self.since_ms = since_ms;
        }
    }

    /// Proposes what is due and says when to look again, in milliseconds.
    async fn look(&mut self) -> u64 {
        let timing = self.pace.timing();
        if self.evidence.confirm().await.is_err() {
            // Without a majority no session can begin, and those there are end: that silence is ours, not the nodes'.
            self.since_ms = flowyard_clock::boot_ms();
            return (timing.suspect_ms / 4).max(1);
        }
        let (view, heard) = (self.feed.view(), self.heard.lock().at().clone());
        let (wanted, again_in) = conclusions(&view, &heard, &timing, self.since_ms, flowyard_clock::boot_ms());
        // Many at once: when a rack is lost, its nodes must not wait for each other, nor the next look for all of them.
        let proposed =
            futures::stream::iter(wanted).for_each_concurrent(AT_ONCE, async |(node, incarnation, health)| {
                let last_ms = heard.get(&node).copied();
                if health == Health::Down && !self.heard.lock().give_up(node, incarnation, last_ms) {
                    return;
                }
                tracing::info!(%node, ?health, "concluded about a node");
                let command = Command::SetNodeHealth { node, incarnation, health };
                match self.proposer.propose(&command).await {
                    Ok(_) if health == Health::Down => self.proposer.counts().nodes_lost.add(1),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%node, %error, "a conclusion about a node was not taken"),
                }
            });
        proposed.await;
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
            // From before the look: a pause may as well come while its conclusions are proposed.
            let looked_ms = flowyard_clock::boot_ms();
            let again_in = self.look().await;
            let planned_ms = looked_ms + again_in;
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                () = tokio::time::sleep(Duration::from_millis(again_in)) => {}
            }
            self.forgive_own_pause(planned_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Entry, Revision, TimeMs};
    use flowyard_state::{State, apply};

    use super::*;
    use crate::fixture;

    const TIMING: Timing = Timing::STANDARD;

    fn one_node() -> View {
        let mut state = State::new();
        let command = Command::RegisterNode(fixture::registration("n1"));
        apply(&mut state, Entry { index: Revision(1), time: TimeMs(1), command });
        state.view()
    }

    #[test]
    fn silence_makes_a_node_suspect_and_then_down() {
        let (view, heard) = (one_node(), BTreeMap::from([(NodeId(1), 1_000)]));
        let health = |now_ms| conclusions(&view, &heard, &TIMING, 0, now_ms).0.first().map(|(.., health)| *health);
        assert_eq!(health(1_000 + TIMING.suspect_ms - 1), None);
        assert_eq!(health(1_000 + TIMING.suspect_ms), Some(Health::Suspect));
        assert_eq!(health(1_000 + TIMING.down_ms), Some(Health::Down));
    }

    #[test]
    fn a_suspect_node_is_trusted_again_when_it_is_heard_from_and_not_because_another_leads() {
        let mut state = State::new();
        let register = Command::RegisterNode(fixture::registration("n1"));
        apply(&mut state, Entry { index: Revision(1), time: TimeMs(1), command: register });
        let suspect = Command::SetNodeHealth { node: NodeId(1), incarnation: Incarnation(1), health: Health::Suspect };
        apply(&mut state, Entry { index: Revision(2), time: TimeMs(1), command: suspect });
        let view = state.view();
        let leads_since = 100_000;
        assert_eq!(conclusions(&view, &BTreeMap::new(), &TIMING, leads_since, leads_since + 1).0, []);
        let heard = BTreeMap::from([(NodeId(1), leads_since)]);
        let (wanted, _) = conclusions(&view, &heard, &TIMING, leads_since, leads_since + 1);
        assert_eq!(wanted, [(NodeId(1), Incarnation(1), Health::Up)]);
        let gone = leads_since + TIMING.down_ms;
        let (wanted, _) = conclusions(&view, &BTreeMap::new(), &TIMING, leads_since, gone);
        assert_eq!(wanted, [(NodeId(1), Incarnation(1), Health::Down)], "and it is given up in time");
    }

    #[test]
    fn what_a_node_says_after_it_was_given_up_does_not_count_until_it_registers_anew() {
        let (node, mut last) = (NodeId(1), LastHeard::default());
        assert!(last.mark(node, Incarnation(3), 10));
        assert!(!last.give_up(node, Incarnation(3), Some(9)), "it was heard meanwhile");
        assert!(last.mark(node, Incarnation(3), 11));
        assert!(last.give_up(node, Incarnation(3), Some(11)));
        assert!(!last.mark(node, Incarnation(3), 12));
        assert_eq!(last.at().get(&node), Some(&11));
        assert!(last.mark(node, Incarnation(4), 13));
        last.begin();
        assert!(last.mark(node, Incarnation(3), 14), "another leader has concluded nothing yet");
    }

    #[test]
    fn silence_while_this_process_did_not_run_is_no_silence_of_nodes() {
        let (view, heard) = (one_node(), BTreeMap::from([(NodeId(1), 1_000)]));
        let planned_ms = 1_500;
        let after = planned_ms + 2 * TIMING.down_ms;
        let since_ms = listening_since(0, &TIMING, planned_ms, after);
        assert_eq!(conclusions(&view, &heard, &TIMING, since_ms, after).0, []);
        let silent_since = after + TIMING.suspect_ms;
        assert_eq!(conclusions(&view, &heard, &TIMING, since_ms, silent_since).0.len(), 1, "grace is no pardon");
        assert_eq!(listening_since(7, &TIMING, planned_ms, planned_ms + 10), 7, "a look may be a little late");
    }
}
