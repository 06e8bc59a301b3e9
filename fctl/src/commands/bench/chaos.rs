//! Faults while a fleet is measured, in the bench's own cluster: one after the other, spread over its tasks. At the end every task
//! is looked at, as ever.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flowyard_model::{Queue, QueueAmounts, QueuePath};
use flowyard_sdk::client::Client;
use serde::Serialize;

use super::agents::Agents;
use super::cluster::{Cluster, until_put};
use crate::cli::bench::Fault;
use crate::failure::Failure;
use crate::output;

/// How long a leader that was killed stays away.
const AWAY: Duration = Duration::from_secs(2);
/// How long each limit of a queue holds.
const HELD: Duration = Duration::from_millis(700);
/// Agents that lose their connections, of a million.
const DROPPED_PPM: u32 = 300_000;

/// A fault that happened; its fields are documented in `docs/json-output.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Happened {
    pub fault: &'static str,
    /// From the first submission.
    pub at_ms: u64,
    /// Attempts that were over when it began, and how many there were to be at least.
    pub over: u64,
    pub tasks: u64,
    pub took_ms: u64,
}

/// The faults of one bench.
#[derive(Debug)]
pub(super) struct Chaos {
    left: VecDeque<Fault>,
    all: usize,
    /// Whose limit is changed, and what all nodes have together.
    queue: QueuePath,
    cpu_milli: u64,
    begun: Instant,
    under_way: Option<(UnderWay, Instant)>,
    happened: Vec<Happened>,
}

#[derive(Debug)]
enum UnderWay {
    /// This coordinator is away.
    Leader(usize),
    /// Limits that are still to be put; the last is none.
    Limit(VecDeque<Option<u64>>),
}

/// What it is done to.
pub(super) struct Victims<'a> {
    pub cluster: &'a mut Cluster,
    pub agents: &'a mut Agents,
    /// Of somebody who may change queues, at all coordinators.
    pub client: &'a mut Client,
}

impl Chaos {
    pub(super) fn of(faults: &[Fault], queue: QueuePath, cpu_milli: u64) -> Self {
        let left: VecDeque<Fault> = faults.iter().copied().collect();
        let all = left.len();
        Self { left, all, queue, cpu_milli, begun: flowyard_clock::monotonic(), under_way: None, happened: Vec::new() }
    }

    /// The first task is submitted.
    pub(super) fn begin(&mut self) {
        self.begun = flowyard_clock::monotonic();
    }

    /// Whether all faults are over.
    pub(super) fn is_over(&self) -> bool {
        self.left.is_empty() && self.under_way.is_none()
    }

    /// What happened.
    pub(super) fn happened(self) -> Vec<Happened> {
        self.happened
    }

    /// Does what is due, when so many attempts are over of so many tasks; `now` if nothing more will be over.
    ///
    /// # Errors
    /// When a fault cannot be made.
    pub(super) async fn look(&mut self, over: u64, tasks: u64, now: bool, victims: Victims<'_>) -> Result<(), Failure> {
        if self.under_way.is_some() {
            return self.go_on(victims).await;
        }
        let number = (self.all - self.left.len()) as u64;
        let due = now || over >= tasks * (number + 1) / (self.all as u64 + 1);
        let Some(fault) = self.left.front().copied().filter(|_| due) else { return Ok(()) };
        self.left.pop_front();
        let at_ms = flowyard_clock::elapsed(self.begun).as_millis() as u64;
        self.happened.push(Happened { fault: fault.name(), at_ms, over, tasks, took_ms: 0 });
        output::note(format!("chaos: {}, when {over} of {tasks} were over", fault.name()));
        self.under_way = self.make(fault, victims).await?.map(|under_way| (under_way, flowyard_clock::monotonic()));
        Ok(())
    }

    /// Makes a fault; what of it is still to be done.
    async fn make(&self, fault: Fault, victims: Victims<'_>) -> Result<Option<UnderWay>, Failure> {
        match fault {
            Fault::Leader => Ok(Some(UnderWay::Leader(victims.cluster.kill_leader(victims.client).await?))),
            Fault::Agents => {
                victims.agents.shake(self.happened.len() as u64, DROPPED_PPM).await?;
                Ok(None)
            }
            Fault::Limit => {
                // A quarter of the nodes, one task, and no limit again.
                let limits = VecDeque::from([Some(1_000), None]);
                put(victims.client, &self.queue, Some((self.cpu_milli / 4).max(1_000))).await?;
                Ok(Some(UnderWay::Limit(limits)))
            }
        }
    }

    async fn go_on(&mut self, victims: Victims<'_>) -> Result<(), Failure> {
        let Some((under_way, since)) = &mut self.under_way else { return Ok(()) };
        let lasted = flowyard_clock::elapsed(*since);
        let over = match under_way {
            UnderWay::Leader(number) if lasted >= AWAY => {
                victims.cluster.start_again(*number)?;
                true
            }
            UnderWay::Limit(limits) if lasted >= HELD => {
                if let Some(limit) = limits.pop_front() {
                    put(victims.client, &self.queue, limit).await?;
                }
                *since = flowyard_clock::monotonic();
                limits.is_empty()
            }
            _ => false,
        };
        if over {
            self.under_way = None;
            if let Some(last) = self.happened.last_mut() {
                last.took_ms = (flowyard_clock::elapsed(self.begun).as_millis() as u64).saturating_sub(last.at_ms);
            }
        }
        Ok(())
    }
}

async fn put(client: &mut Client, path: &QueuePath, cpu_milli: Option<u64>) -> Result<(), Failure> {
    let limit = QueueAmounts { cpu_milli, ..QueueAmounts::default() };
    until_put(client, &Queue { limit, ..Queue::new(path.clone()) }).await
}

impl Happened {
    /// What is wrong with it: a fault that met nothing shows nothing.
    pub(super) fn problem(&self) -> Option<String> {
        let all_over = self.over >= self.tasks;
        all_over.then(|| format!("the fault `{}` came when all was over; give more tasks", self.fault))
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        format!("{} after {} ms, when {} of {} were over", self.fault, self.at_ms, self.over, self.tasks)
    }
}
