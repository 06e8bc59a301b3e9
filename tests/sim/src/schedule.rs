//! Time and what happens in it: events in the order of their time, then of their making.

use std::collections::BTreeMap;

use flowyard_model::{MemberKey, Plan, Reply};

use crate::message::{Ask, Down, Up};

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches the coordinator.
    Up { agent: usize, message: Up },
    /// A message reaches an agent.
    Down { agent: usize, message: Down },
    /// A client's wish reaches the coordinator.
    Ask(Ask),
    /// An answer reaches a client.
    Answer { client: usize, reply: Reply },
    /// A client looks whether it was answered.
    ClientTimer { client: usize },
    /// The oldest proposal is durable.
    Committed { term: u64 },
    /// The placer looks at the state.
    Place { term: u64 },
    /// The placer has an answer.
    Planned { term: u64, plans: Vec<Plan> },
    /// A deadline may have passed.
    TickDue { term: u64 },
    /// Liveness looks at who was heard.
    Liveness { term: u64 },
    /// The coordinator starts again.
    StartCoordinator,
    /// The agent's process starts.
    StartAgent { agent: usize },
    /// The agent looks at its clock.
    AgentTimer { agent: usize, process: u64 },
    /// A running member gets on.
    Progress { agent: usize, member: MemberKey, run: u64 },
    /// A cut link works again.
    Mend { agent: usize },
    /// Something breaks.
    Fault,
    /// Everything is repaired and nothing breaks any more.
    Heal,
}

/// The events that are still to come.
#[derive(Debug)]
pub(crate) struct Schedule {
    now: u64,
    made: u64,
    events: BTreeMap<(u64, u64), Event>,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self { now: 0, made: 0, events: BTreeMap::new() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Lets something happen after so many milliseconds.
    pub(crate) fn after(&mut self, delay_ms: u64, event: Event) {
        self.made += 1;
        self.events.insert((self.now + delay_ms, self.made), event);
    }

    /// The next event; time moves on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}
