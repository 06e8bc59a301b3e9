//! An agent's link to the coordinators: it finds who leads, keeps the session, renews the lease. Sequence numbers, fences and
//! from when a lease counts are the real session's.

use flowyard_agent::session::Session;
use flowyard_model::*;

use crate::host::Host;
use crate::message::{Down, Hello, Up};
use crate::mutation::Mutation;
use crate::network::Way;
use crate::outside::{Outside, TIMING};
use crate::schedule::InAgent;

/// Silence of the coordinator after which a session is given up.
const SILENCE_MS: u64 = 10_000;
/// First wait before another try, doubled each time, and the longest.
const BACKOFF_MS: (u64, u64) = (50, 5_000);
const REDIRECTS: u32 = 3;

pub(crate) struct Link {
    pub(crate) stream: u64,
    session: Session,
    heard_ms: u64,
    pub(crate) welcomed: bool,
}

impl Host {
    /// Says everything to a coordinator.
    pub(crate) fn connect(&mut self, outside: &mut Outside) {
        let now_ms = self.boot(outside);
        let (at, reports, inventory) = (self.at, self.reports(), self.shown());
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.link.is_none()) else { return };
        agent.outgoing.clear();
        let stream = outside.network.open(at, agent.target);
        agent.link = Some(Link { stream, session: Session::begin(now_ms), heard_ms: now_ms, welcomed: false });
        let hello = Hello { name: self.name.clone(), inventory, previous: self.disk.registration, reports };
        outside.send_up(stream, Up::Hello(Box::new(hello)));
    }

    /// The session is over; another is begun, elsewhere.
    fn lose_link(&mut self, outside: &mut Outside) {
        if outside.mutates(Mutation::StopOnOutage) {
            let held: Vec<_> = self.agent.iter().flat_map(|agent| agent.held.keys().copied()).collect();
            held.into_iter().for_each(|key| self.stop_member(outside, key));
        }
        let Some(agent) = &mut self.agent else { return };
        if let Some(link) = agent.link.take() {
            outside.close(link.stream, Way::Up);
        }
        agent.target = (agent.target + 1) % crate::group::REPLICAS;
        agent.backoff_ms = (agent.backoff_ms * 2).clamp(BACKOFF_MS.0, BACKOFF_MS.1);
        let delay = agent.backoff_ms;
        self.plan_agent(outside, delay, InAgent::Connect);
    }

    /// The agent learns that a stream is over.
    pub(crate) fn stream_ended(&mut self, outside: &mut Outside, stream: u64) {
        let current = self.agent.as_ref().and_then(|agent| agent.link.as_ref()).map(|link| link.stream);
        if current == Some(stream) {
            self.lose_link(outside);
        }
    }

    /// It says that it is here, and looks how long nothing was heard.
    pub(crate) fn timer(&mut self, outside: &mut Outside) {
        let now_ms = self.boot(outside);
        self.plan_agent(outside, TIMING.heartbeat_ms, InAgent::Timer);
        if outside.mutates(Mutation::RenewWithoutSession) {
            self.renew_lease(now_ms + TIMING.lease_ms);
        }
        let Some(link) = self.agent.as_ref().and_then(|agent| agent.link.as_ref()) else { return };
        if now_ms.saturating_sub(link.heard_ms) > SILENCE_MS {
            self.lose_link(outside);
        } else if link.welcomed {
            let stream = link.stream;
            outside.send_up(stream, Up::Beat { sent_at_ms: now_ms });
            // The answer then waits for it.
            self.paused |= std::mem::take(&mut self.pauses_next);
        }
    }

    pub(crate) fn told(&mut self, outside: &mut Outside, stream: u64, message: Down) {
        let now_ms = self.boot(outside);
        let Some(agent) = &mut self.agent else { return };
        let Some(link) = agent.link.as_mut().filter(|link| link.stream == stream) else { return };
        link.heard_ms = now_ms;
        match message {
            Down::Refused { leader } => self.refused(outside, leader),
            Down::Welcome { node, incarnation } => {
                link.welcomed = true;
                (agent.backoff_ms, agent.redirects) = (0, 0);
                self.registered(outside, (node, incarnation));
                self.flush(outside);
            }
            Down::Desired(desired) => self.desired(outside, *desired),
            Down::Acknowledged { sequence } => {
                link.session.acknowledge(sequence);
                self.flush(outside);
            }
            Down::Beat { sent_at_ms } => {
                let late = outside.mutates(Mutation::LeaseFromReceipt);
                link.session.answered(if late { now_ms } else { sent_at_ms });
                self.renew(outside);
            }
        }
    }

    fn refused(&mut self, outside: &mut Outside, leader: Option<usize>) {
        let agent = self.agent.as_mut().expect("it was told");
        match leader.filter(|_| agent.redirects < REDIRECTS) {
            Some(leader) => {
                agent.redirects += 1;
                agent.target = leader;
                let link = agent.link.take().expect("it was told");
                outside.close(link.stream, Way::Up);
                self.plan_agent(outside, 0, InAgent::Connect);
            }
            None => {
                agent.redirects = 0;
                self.lose_link(outside);
            }
        }
    }

    fn renew(&mut self, _: &Outside) {
        let session = self.agent.as_ref().and_then(|agent| agent.link.as_ref()).map(|link| &link.session);
        if let Some(from_ms) = session.and_then(Session::lease_from) {
            self.renew_lease(from_ms + TIMING.lease_ms);
        }
    }

    fn desired(&mut self, outside: &mut Outside, desired: Desired) {
        let agent = self.agent.as_mut().expect("it was told");
        let link = agent.link.as_mut().expect("it was told");
        let received = link.session.receive(&desired, &mut agent.highest);
        if received.is_err() {
            return self.lose_link(outside);
        }
        let touched = agent.wishes.take(&desired, agent.held.keys().copied());
        for context in &desired.steps {
            agent.steps.insert((context.job, context.step), context.clone());
        }
        for key in touched {
            self.act(outside, key);
        }
        let agent = self.agent.as_mut().expect("it was told");
        let used = agent.wishes.members().chain(agent.held.keys()).map(|key| (key.task.job, key.task.step));
        let used: std::collections::BTreeSet<_> = used.collect();
        agent.steps.retain(|step, _| used.contains(step));
        if desired.all {
            self.renew(outside);
            self.go_on(outside);
        }
        self.flush(outside);
    }

    /// Puts a report in line; what is no end may wait a little for later news.
    pub(crate) fn put(&mut self, outside: &mut Outside, report: AttemptReport) {
        let (at, is_end) = (self.at, report.end.is_some());
        let Some(agent) = &mut self.agent else { return };
        if agent.outgoing.get(&report.member).is_none_or(|there| there.phase <= report.phase) {
            agent.outgoing.insert(report.member, report);
        }
        if is_end {
            self.flush(outside);
        } else if !agent.flushing {
            agent.flushing = true;
            outside.in_agent(flowyard_agent::session::HELD_MS + 1, at, agent.id, InAgent::Flush);
        }
    }

    /// Sends what is due and has room on the way.
    pub(crate) fn flush(&mut self, outside: &mut Outside) {
        let now_ms = self.boot(outside);
        let Some(agent) = &mut self.agent else { return };
        let Some(link) = agent.link.as_mut().filter(|link| link.welcomed) else { return };
        for report in std::mem::take(&mut agent.outgoing).into_values() {
            link.session.report(report, now_ms);
        }
        while let Some((sequence, reports)) = link.session.next_batch(now_ms) {
            outside.send_up(link.stream, Up::Observed { sequence, reports });
        }
        if !agent.flushing
            && let Some(due_ms) = link.session.due_ms()
        {
            agent.flushing = true;
            let delay = self.clock.until(outside.schedule.now(), due_ms.max(now_ms + 1));
            outside.in_agent(delay, self.at, agent.id, InAgent::Flush);
        }
    }

    /// What was held back is due.
    pub(crate) fn flush_due(&mut self, outside: &mut Outside) {
        if let Some(agent) = &mut self.agent {
            agent.flushing = false;
        }
        self.flush(outside);
    }
}
