//! The coordinator's side of the sessions: who was heard when, and what each agent was told. What is told is decided by the
//! real code.

use std::collections::BTreeMap;

use flowyard_coordinator::session::desired::Told;
use flowyard_model::*;
use flowyard_state::View;

use crate::coordinator::{Leader, Origin};
use crate::message::{Down, Up};
use crate::outside::Outside;

pub(crate) struct Sessions {
    by_node: BTreeMap<NodeId, Conversation>,
    /// When each node was last heard from.
    pub(crate) heard: BTreeMap<NodeId, u64>,
}

struct Conversation {
    agent: usize,
    id: u64,
    incarnation: Incarnation,
    /// Numbers of messages, both ways.
    sent: u64,
    received: u64,
    /// Reports up to this number are in the log.
    acknowledged: u64,
    told: Told,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { by_node: BTreeMap::new(), heard: BTreeMap::new() }
    }

    pub(crate) fn heard(&mut self, node: NodeId, now: u64) {
        self.heard.insert(node, now);
    }

    /// Tells a node's agent what changed for it, or everything at first.
    pub(crate) fn tell(&mut self, outside: &mut Outside, view: &View, node: NodeId, term: Term) {
        let Some(talk) = self.by_node.get_mut(&node) else { return };
        let record = view.node(node);
        let valid = record.is_some_and(|node| node.incarnation == talk.incarnation && node.health != Health::Down);
        if !valid {
            outside.send_down(talk.agent, Down::Closed { session: talk.id, register: true });
            self.by_node.remove(&node);
        } else if let Some(desired) = talk.told.next(view, term) {
            talk.sent = desired.sequence;
            outside.send_down(talk.agent, Down::Desired { session: talk.id, desired });
        }
    }

    /// Reports of a session are in the log.
    pub(crate) fn acknowledge(&mut self, outside: &mut Outside, agent: usize, session: u64, sequence: u64) {
        if let Some((_, talk)) = self.find(agent, session) {
            talk.acknowledged = talk.acknowledged.max(sequence);
        }
        outside.send_down(agent, Down::Ack { session, sequence });
    }

    fn find(&mut self, agent: usize, session: u64) -> Option<(NodeId, &mut Conversation)> {
        let mut all = self.by_node.iter_mut();
        all.find(|(_, talk)| talk.agent == agent && talk.id == session).map(|(node, talk)| (*node, talk))
    }
}

impl Leader {
    /// A message of an agent. `name` and `inventory` are what it would register with.
    pub(crate) fn hear(
        &mut self,
        outside: &mut Outside,
        agent: usize,
        message: Up,
        shown: impl FnOnce() -> (Name, std::sync::Arc<Inventory>),
    ) {
        let now = outside.schedule.now();
        match message {
            Up::Register { request, previous } => {
                let (name, inventory) = shown();
                let wish = RegisterNode { name, inventory, previous };
                self.propose(outside, Command::RegisterNode(wish), Origin::Registration { agent, request });
            }
            Up::Connect { session, node, incarnation, observed } => {
                self.connect(outside, agent, session, (node, incarnation), observed);
            }
            Up::Reports { session, sequence, reports } => self.reports(outside, agent, session, sequence, reports),
            Up::Beat { session, sent } => match self.sessions.find(agent, session) {
                Some((node, talk)) if talk.received >= sent => {
                    let beat = Down::Beat { session, sent: talk.sent, acknowledged: talk.acknowledged };
                    self.sessions.heard(node, now);
                    outside.send_down(agent, beat);
                }
                found => {
                    // Reports are missing: both begin anew.
                    if let Some((node, _)) = found {
                        self.sessions.by_node.remove(&node);
                    }
                    outside.send_down(agent, Down::Closed { session, register: false });
                }
            },
        }
    }

    fn connect(
        &mut self,
        outside: &mut Outside,
        agent: usize,
        session: u64,
        (node, incarnation): (NodeId, Incarnation),
        reports: Vec<AttemptReport>,
    ) {
        let record = self.state.node(node);
        let valid = record.is_some_and(|record| record.incarnation == incarnation && record.health != Health::Down);
        if !valid {
            outside.send_down(agent, Down::Closed { session, register: true });
            return;
        }
        if self.sessions.by_node.get(&node).is_some_and(|talk| talk.id >= session) {
            return;
        }
        let told = Told::nothing(node);
        let talk = Conversation { agent, id: session, incarnation, sent: 0, received: 0, acknowledged: 0, told };
        self.sessions.by_node.insert(node, talk);
        self.sessions.heard(node, outside.schedule.now());
        if !reports.is_empty() {
            let command = Command::ReportAttempts(ReportAttempts { node, incarnation, reports });
            self.propose(outside, command, Origin::Nobody);
        }
        self.sessions.tell(outside, &self.state.view(), node, Term(self.term));
    }

    fn reports(
        &mut self,
        outside: &mut Outside,
        agent: usize,
        session: u64,
        sequence: u64,
        reports: Vec<AttemptReport>,
    ) {
        let now = outside.schedule.now();
        let Some((node, talk)) = self.sessions.find(agent, session) else {
            outside.send_down(agent, Down::Closed { session, register: false });
            return;
        };
        if sequence <= talk.received {
            return;
        }
        if sequence > talk.received + 1 {
            self.sessions.by_node.remove(&node);
            outside.send_down(agent, Down::Closed { session, register: false });
            return;
        }
        talk.received = sequence;
        let incarnation = talk.incarnation;
        self.sessions.heard(node, now);
        let command = Command::ReportAttempts(ReportAttempts { node, incarnation, reports });
        self.propose(outside, command, Origin::Reports { agent, session, sequence });
    }
}
