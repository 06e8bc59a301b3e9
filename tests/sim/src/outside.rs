//! Everything that a simulated process touches beside itself: chance, time, the network, and what was really done.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_coordinator::Timing;
use flowyard_model::{Digest, JobId, MemberKey, OnDisconnect};

use crate::circumstances::Circumstances;
use crate::dice::Dice;
use crate::message::{Down, Up};
use crate::mutation::Mutation;
use crate::network::{Network, Way};
use crate::schedule::{Event, InAgent, Schedule};
use crate::trace::Trace;

/// The product's own times.
pub(crate) const TIMING: Timing = Timing::STANDARD;

pub(crate) struct Outside {
    pub(crate) dice: Dice,
    pub(crate) schedule: Schedule,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    /// Whether nothing breaks any more.
    pub(crate) healed: bool,
    /// What is likelier than usual.
    pub(crate) circumstances: Circumstances,
    /// What the product is made to do wrong, to see that it is noticed.
    pub(crate) mutation: Option<Mutation>,
    /// Jobs that a client was told of.
    pub(crate) acknowledged: BTreeSet<JobId>,
    /// Jobs that somebody asked to forget.
    pub(crate) forgotten: BTreeSet<JobId>,
    /// Jobs that were to be submitted.
    pub(crate) submitted: u64,
    /// What runs that succeeded wrote.
    pub(crate) written: BTreeMap<Digest, MemberKey>,
    /// Programs that run, wherever, by run: whose, and whether it must never run twice.
    pub(crate) live: BTreeMap<u64, (MemberKey, OnDisconnect)>,
    /// Members of whose program's end an agent has spoken, and remembers it.
    pub(crate) told_ended: BTreeSet<MemberKey>,
    /// Members that agents stopped just now.
    pub(crate) stopped: Vec<MemberKey>,
    /// A property of the machines that was broken.
    pub(crate) broken: Option<String>,
    /// Whether the seam of a mutation was used.
    pub(crate) mutated: u64,
}

impl Outside {
    /// Whether the product is to do this wrong, here and now.
    pub(crate) fn mutates(&mut self, mutation: Mutation) -> bool {
        let mutates = self.mutation == Some(mutation);
        self.mutated += u64::from(mutates);
        mutates
    }

    pub(crate) fn now(&self) -> u64 {
        self.schedule.now()
    }

    pub(crate) fn send_up(&mut self, stream: u64, message: Up) {
        let Self { dice, schedule, network, .. } = self;
        network.send(schedule, dice, stream, Way::Up, Event::Up { stream, message });
    }

    pub(crate) fn send_down(&mut self, stream: u64, message: Down) {
        let Self { dice, schedule, network, .. } = self;
        network.send(schedule, dice, stream, Way::Down, Event::Down { stream, message });
    }

    /// One end of a stream closes it; `told` is the way to the other.
    pub(crate) fn close(&mut self, stream: u64, told: Way) {
        let Self { dice, schedule, network, .. } = self;
        network.close(schedule, dice, stream, told);
    }

    pub(crate) fn in_agent(&mut self, delay_ms: u64, agent: usize, process: u64, what: InAgent) {
        self.schedule.after(delay_ms, Event::In { agent, process, what });
    }

    /// A program begins to run.
    pub(crate) fn runs(&mut self, run: u64, member: MemberKey, on_disconnect: OnDisconnect) {
        let other = self.live.values().find(|(other, _)| {
            let same = other.task == member.task;
            same && on_disconnect == OnDisconnect::Stop
                && (other.attempt != member.attempt || other.rank == member.rank)
        });
        if let Some((other, _)) = other {
            self.broken
                .get_or_insert(format!("{member:?} begins to run while {other:?} runs, and must never run twice"));
        }
        if self.told_ended.contains(&member) {
            self.broken.get_or_insert(format!("{member:?} begins to run again, after its end was reported"));
        }
        self.live.insert(run, (member, on_disconnect));
    }
}
