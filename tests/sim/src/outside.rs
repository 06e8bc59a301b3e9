//! Everything that a simulated process touches beside itself: chance, time, the network, and what was really done.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{Digest, JobId, MemberKey};

use crate::dice::Dice;
use crate::message::{Down, Up};
use crate::network::Network;
use crate::schedule::{Event, Schedule};
use crate::trace::Trace;

pub(crate) struct Outside {
    pub(crate) dice: Dice,
    pub(crate) schedule: Schedule,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    /// Whether nothing breaks any more.
    pub(crate) healed: bool,
    /// Jobs that a client was told of.
    pub(crate) acknowledged: BTreeSet<JobId>,
    /// What runs that succeeded wrote.
    pub(crate) written: BTreeMap<Digest, MemberKey>,
}

impl Outside {
    pub(crate) fn send_up(&mut self, agent: usize, message: Up) {
        let Self { dice, schedule, network, .. } = self;
        network.send(dice, schedule, Some(agent), || Event::Up { agent, message: message.clone() });
    }

    pub(crate) fn send_down(&mut self, agent: usize, message: Down) {
        let Self { dice, schedule, network, .. } = self;
        network.send(dice, schedule, Some(agent), || Event::Down { agent, message: message.clone() });
    }

    pub(crate) fn send_by_client_link(&mut self, event: impl Fn() -> Event) {
        let Self { dice, schedule, network, .. } = self;
        network.send(dice, schedule, None, event);
    }
}
