//! Time and what happens in it: events in the order of their time, then of their making.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use flowyard_model::{JobId, MemberKey, Plan};

use crate::faults::Repair;
use crate::message::{Down, Up};

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A message reaches a coordinator.
    Up { stream: u64, message: Up },
    /// A message reaches an agent.
    Down { stream: u64, message: Down },
    /// A coordinator learns that a stream is over.
    EndsAbove { replica: usize, stream: u64 },
    /// An agent learns that a stream is over.
    EndsBelow { agent: usize, stream: u64 },
    /// Something happens in a coordinator.
    At { replica: usize, process: u64, what: AtReplica },
    /// The coordinators may choose a leader.
    Elect,
    /// A coordinator may learn that another leads.
    Learn { replica: usize },
    /// Something happens in an agent's process.
    In { agent: usize, process: u64, what: InAgent },
    /// A task's program ends by itself.
    Exit { agent: usize, run: u64 },
    /// A task's program follows the signal to end.
    Obeys { agent: usize, run: u64 },
    /// What watches a task's program looks at its clock.
    Due { agent: usize, run: u64 },
    /// A client looks whether it was answered.
    ClientTimer { client: usize },
    /// A submission reaches a coordinator.
    Submission { client: usize, replica: usize },
    /// A client is told its job.
    Answer { client: usize, job: Option<JobId> },
    /// A client that follows a job is told about it.
    Watched { job: JobId, replica: usize },
    /// Somebody cancels a job.
    Cancel { job: JobId },
    /// Something breaks.
    Fault,
    /// What broke is mended.
    Repair(Repair),
    /// Machines are looked at.
    Inspect,
    /// Everything is repaired and nothing breaks any more.
    Heal,
}

/// Something that happens in one process of a coordinator.
#[derive(Debug, Clone)]
pub(crate) enum AtReplica {
    /// It applies what was chosen meanwhile.
    CatchUp,
    /// It begins to lead, having applied what was there before.
    Lead { term: u64 },
    /// Proposals may have become durable on a majority.
    Commit { term: u64 },
    /// The placer looks at the state.
    Place { term: u64 },
    /// The placer has an answer.
    Planned { term: u64, plans: Vec<Plan> },
    /// The placer is woken by itself.
    Wake { term: u64 },
    /// It is time to tell an agent what is wanted of it.
    Tell { stream: u64 },
    /// Reports have waited long enough for others to go along with.
    Join { term: u64 },
    /// A deadline may have passed.
    TickDue { term: u64 },
    /// Liveness looks at who was heard; the look was planned for this boot time.
    Look { term: u64, planned_ms: u64 },
    /// A session may have been silent for too long.
    Silence { stream: u64 },
}

/// Something that happens in one process of an agent.
#[derive(Debug, Clone)]
pub(crate) enum InAgent {
    /// It waits until nothing runs that it does not know; so often it has.
    Begin { waited: u32 },
    /// It looks for a coordinator.
    Connect,
    /// It says that it is here, and looks at its clock.
    Timer,
    /// News that were held back are due.
    Flush,
    /// A member's program has ended.
    Ended { member: MemberKey },
    /// A member gets on by one phase.
    Step { member: MemberKey, run: u64 },
}

/// The events that are still to come.
#[derive(Debug)]
pub(crate) struct Schedule {
    now: u64,
    made: u64,
    /// When, in which order among those of the same time, and where the event is.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self { now: 0, made: 0, order: BinaryHeap::new(), events: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Lets something happen after so many milliseconds.
    pub(crate) fn after(&mut self, delay_ms: u64, event: Event) {
        self.made += 1;
        let at = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[at] = Some(event);
        self.order.push(Reverse((self.now + delay_ms, self.made, at)));
    }

    /// Lets something happen at a time, or now if that is past.
    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.after(time.saturating_sub(self.now), event);
    }

    /// The next event; time moves on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse((time, _, at)) = self.order.pop()?;
        self.now = time;
        self.free.push(at);
        self.events[at].take()
    }
}
