//! A leader's side of the sessions with agents. What is told, whether a session may go on and whether a report is missing are
//! decided by the real code.

use std::collections::BTreeSet;

use flowyard_coordinator::Timing;
use flowyard_coordinator::session::desired::Told;
use flowyard_coordinator::session::{comes_next, is_current, known};
use flowyard_model::*;

use crate::leader::Origin;
use crate::message::{Down, Hello, Up};
use crate::mutation::Mutation;
use crate::network::Way;
use crate::outside::{Outside, TIMING};
use crate::replica::Replica;
use crate::schedule::AtReplica;

/// How long after its welcome an agent is told what is wanted of it, where that is late.
const LATE_NEWS_MS: (u64, u64) = (2_000, 60_000);

/// How long reports of one session wait for those of others.
const JOINED_MS: u64 = 20;

/// One session.
pub(crate) struct Talk {
    pub(crate) node: NodeId,
    incarnation: Incarnation,
    received: u64,
    heard_ms: u64,
    told: Told,
    /// Whether it was not yet time to tell it anything.
    quiet: bool,
}

impl Replica {
    /// A message of an agent; `leader` is who leads, if this coordinator knows, and `follows` whether a majority follows it.
    pub(crate) fn hear(
        &mut self,
        outside: &mut Outside,
        stream: u64,
        message: Up,
        leader: Option<usize>,
        follows: bool,
    ) {
        match message {
            Up::Hello(hello) => self.greet(outside, stream, *hello, leader),
            Up::Observed { sequence, reports } => self.observed(outside, stream, sequence, reports),
            Up::Beat { sent_at_ms } => self.beat(outside, stream, sent_at_ms, follows),
        }
    }

    fn greet(&mut self, outside: &mut Outside, stream: u64, hello: Hello, leader: Option<usize>) {
        let now_ms = self.boot(outside);
        let Some(leading) = self.leader.as_mut().filter(|leader| leader.ready) else {
            outside.send_down(stream, Down::Refused { leader });
            return;
        };
        if leading.sessions.remove(&stream).is_some() || leading.greetings.remove(&stream).is_some() {
            // The greeting comes once.
            return outside.close(stream, Way::Down);
        }
        let Some(agent) = outside.network.stream(stream).map(|stream| stream.agent) else { return };
        leading.greetings.insert(stream, (agent, hello.reports));
        let wish = RegisterNode { name: hello.name, inventory: hello.inventory, previous: hello.previous };
        if let Some((node, incarnation)) = known(&self.state.view(), &wish) {
            self.heard.mark(node, incarnation, now_ms);
        }
        self.propose(outside, Command::RegisterNode(wish), Origin::Registration { stream });
    }

    /// The registration of the agent behind a stream was applied.
    pub(crate) fn registered(&mut self, outside: &mut Outside, stream: u64, reply: &Reply) {
        let now_ms = self.boot(outside);
        let Some(leader) = &mut self.leader else { return };
        let Reply::Registered { node, incarnation } = *reply else {
            leader.greetings.remove(&stream);
            return outside.close(stream, Way::Down);
        };
        self.heard.mark(node, incarnation, now_ms);
        let Some((_, reports)) = leader.greetings.get_mut(&stream) else { return };
        let reports = std::mem::take(reports);
        if reports.is_empty() {
            self.welcome(outside, stream, node, incarnation);
        } else {
            let command = Command::ReportAttempts(ReportAttempts { node, incarnation, reports });
            self.propose(outside, command, Origin::Greeting { stream, node, incarnation });
        }
    }

    pub(crate) fn welcome(&mut self, outside: &mut Outside, stream: u64, node: NodeId, incarnation: Incarnation) {
        let heard_ms = self.boot(outside);
        let Some(leader) = &mut self.leader else { return };
        if leader.greetings.remove(&stream).is_none() {
            return;
        }
        outside.send_down(stream, Down::Welcome { node, incarnation });
        let quiet = outside.circumstances.late_news;
        let talk = Talk { node, incarnation, received: 0, heard_ms, told: Told::nothing(node), quiet };
        leader.sessions.insert(stream, talk);
        self.tell_first(outside, stream, node);
        let delay = self.clock.until(outside.now(), heard_ms + TIMING.suspect_ms);
        self.plan(outside, delay, AtReplica::Silence { stream });
    }

    /// Tells the agent of a node for the first time what is wanted of it, or plans to.
    fn tell_first(&mut self, outside: &mut Outside, stream: u64, node: NodeId) {
        if outside.circumstances.late_news {
            let delay = outside.dice.within(LATE_NEWS_MS.0, LATE_NEWS_MS.1);
            self.plan(outside, delay, AtReplica::Tell { stream });
        } else {
            self.tell(outside, &BTreeSet::from([node]));
        }
    }

    /// It is time to tell an agent what is wanted of it.
    pub(crate) fn tell_late(&mut self, outside: &mut Outside, stream: u64) {
        let talk = self.leader.as_mut().and_then(|leader| leader.sessions.get_mut(&stream));
        let Some(talk) = talk else { return };
        talk.quiet = false;
        let node = talk.node;
        self.tell(outside, &BTreeSet::from([node]));
    }

    /// Tells the agents of some nodes what changed for them, or everything at first.
    pub(crate) fn tell(&mut self, outside: &mut Outside, nodes: &BTreeSet<NodeId>) {
        let Some(leader) = &mut self.leader else { return };
        let term = Term(leader.term);
        let view = self.state.view();
        let mut over = Vec::new();
        for (stream, talk) in leader.sessions.iter_mut().filter(|(_, talk)| nodes.contains(&talk.node)) {
            if !is_current(&view, talk.node, talk.incarnation) {
                over.push(*stream);
            } else if !talk.quiet
                && let Some(desired) = talk.told.next(&view, term)
            {
                outside.send_down(*stream, Down::Desired(Box::new(desired)));
            }
        }
        for stream in over {
            self.end(outside, stream);
        }
    }

    fn end(&mut self, outside: &mut Outside, stream: u64) {
        if let Some(leader) = &mut self.leader {
            leader.sessions.remove(&stream);
        }
        outside.close(stream, Way::Down);
    }

    /// A stream is over, as far as this coordinator is told.
    pub(crate) fn hung_up(&mut self, stream: u64) {
        if let Some(leader) = &mut self.leader {
            leader.sessions.remove(&stream);
            leader.greetings.remove(&stream);
        }
    }

    /// It does not lead any more: whoever is connected has to find who does.
    pub(crate) fn step_down(&mut self, outside: &mut Outside) {
        let Some(leader) = self.leader.take() else { return };
        for stream in leader.sessions.into_keys().chain(leader.greetings.into_keys()) {
            outside.close(stream, Way::Down);
        }
    }

    /// A session from which nothing was heard for too long is over.
    pub(crate) fn silence(&mut self, outside: &mut Outside, stream: u64) {
        let now_ms = self.boot(outside);
        let Some(talk) = self.leader.as_ref().and_then(|leader| leader.sessions.get(&stream)) else { return };
        let due_ms = talk.heard_ms + TIMING.suspect_ms;
        if now_ms >= due_ms {
            return self.end(outside, stream);
        }
        let delay = self.clock.until(outside.now(), due_ms);
        self.plan(outside, delay, AtReplica::Silence { stream });
    }

    /// A sign of life in a session; `None` when the session is over.
    fn mark(&mut self, outside: &mut Outside, stream: u64) -> Option<&mut Talk> {
        let now_ms = self.boot(outside);
        let talk = self.leader.as_ref().and_then(|leader| leader.sessions.get(&stream));
        let whose = talk.map(|talk| (talk.node, talk.incarnation));
        if !whose.is_some_and(|(node, incarnation)| self.heard.mark(node, incarnation, now_ms)) {
            let greeted = self.leader.as_ref().is_some_and(|leader| leader.greetings.contains_key(&stream));
            if !greeted {
                self.end(outside, stream);
            }
            return None;
        }
        let talk = self.leader.as_mut().and_then(|leader| leader.sessions.get_mut(&stream))?;
        talk.heard_ms = now_ms;
        Some(talk)
    }

    /// A sign of life is answered on the word of a majority.
    fn beat(&mut self, outside: &mut Outside, stream: u64, sent_at_ms: u64, follows: bool) {
        let now_ms = self.boot(outside);
        if self.mark(outside, stream).is_none() {
            return;
        }
        let Some(leader) = &mut self.leader else { return };
        if follows {
            leader.followed_ms = now_ms;
        }
        let alone_ms = now_ms.saturating_sub(leader.followed_ms);
        if alone_ms < Timing::EVIDENCE_MS || outside.mutates(Mutation::LeaseWithoutQuorum) {
            outside.send_down(stream, Down::Beat { sent_at_ms });
        } else if alone_ms >= TIMING.suspect_ms {
            self.end(outside, stream);
        }
    }

    fn observed(&mut self, outside: &mut Outside, stream: u64, sequence: u64, reports: Vec<AttemptReport>) {
        let Some(talk) = self.mark(outside, stream) else { return };
        let (node, incarnation) = (talk.node, talk.incarnation);
        if !comes_next(&mut talk.received, sequence) {
            return self.end(outside, stream);
        }
        let reports = ReportAttempts { node, incarnation, reports };
        if self.state.version() < ClusterVersion::ACCESS {
            return self.propose(outside, Command::ReportAttempts(reports), Origin::Reports { stream, sequence });
        }
        let Some(leader) = &mut self.leader else { return };
        leader.joining.push(((stream, sequence), reports));
        if leader.joining.len() == 1 {
            let (term, delay) = (leader.term, outside.dice.within(0, JOINED_MS));
            self.plan(outside, delay, AtReplica::Join { term });
        }
    }

    /// What sessions reported meanwhile goes into the log together.
    pub(crate) fn join(&mut self, outside: &mut Outside) {
        let Some(leader) = &mut self.leader else { return };
        let (said, mut reports): (Vec<_>, Vec<_>) = std::mem::take(&mut leader.joining).into_iter().unzip();
        let command = match reports.len() {
            1 => Command::ReportAttempts(reports.remove(0)),
            _ => Command::ReportMany(reports),
        };
        self.propose(outside, command, Origin::Joined(said));
    }

    /// Reports of a session are in the log.
    pub(crate) fn acknowledge(&mut self, outside: &mut Outside, stream: u64, sequence: u64) {
        outside.send_down(stream, Down::Acknowledged { sequence });
    }
}
