//! What an agent counts, and the page of figures that it tells its operator. Every figure is in `docs/metrics.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flowyard_model::{AttemptOutcome, Blame, End, Phase, Reason, Resources};
use flowyard_telemetry::distribution::LONG;
use flowyard_telemetry::{Distribution, Labels, Page, Source, spelled};

use crate::attempt::Desk;
use crate::fleet::Reach;

/// Phases that an attempt can be in here.
const PHASES: [(Phase, &str); 4] = [
    (Phase::Accepted, "accepted"),
    (Phase::Fetching, "fetching"),
    (Phase::Running, "running"),
    (Phase::Storing, "storing"),
];

/// What one agent has counted since it began.
#[derive(Debug)]
pub(crate) struct Counts {
    phases: [AtomicI64; PHASES.len()],
    ended: Mutex<BTreeMap<(AttemptOutcome, Reason, Blame), u64>>,
    /// Bringing code, inputs and image.
    pub fetch: Distribution,
    /// From there until the launcher is asked.
    pub prepare: Distribution,
    /// From there until the process runs.
    pub start: Distribution,
    /// Storing outputs and logs.
    pub store: Distribution,
    /// Sessions that began.
    pub sessions: AtomicU64,
    /// Sessions that were lost, and tries that led to none.
    pub losses: AtomicU64,
    /// Whether there is a session.
    pub connected: AtomicU64,
    /// Until when the lease lasts, boot time in milliseconds.
    pub lease_until_ms: AtomicU64,
    /// Bytes of tasks' logs that were stored.
    pub log_bytes: AtomicU64,
    held_cpu_milli: AtomicI64,
    held_memory_bytes: AtomicI64,
    held_gpus: AtomicI64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            phases: Default::default(),
            ended: Mutex::default(),
            fetch: Distribution::new(LONG),
            prepare: Distribution::new(LONG),
            start: Distribution::new(LONG),
            store: Distribution::new(LONG),
            sessions: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            lease_until_ms: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            held_cpu_milli: AtomicI64::new(0),
            held_memory_bytes: AtomicI64::new(0),
            held_gpus: AtomicI64::new(0),
        }
    }
}

/// An attempt that is counted in its phase and with what it holds, until dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    counts: Arc<Counts>,
    phase: Option<usize>,
    held: [i64; 3],
}

impl Counts {
    /// Counts an attempt with what it holds.
    pub(crate) fn attempt(self: &Arc<Self>, resources: &Resources, gpus: usize) -> Counted {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let held = [signed(resources.cpu_milli), signed(resources.memory_bytes), signed(gpus as u64)];
        let counted = Counted { counts: Arc::clone(self), phase: None, held };
        counted.hold(1);
        counted
    }

    /// A stage of an attempt took this long. What its process takes is its user's business.
    pub(crate) fn stage(&self, name: &str, took: Duration) {
        match name {
            "fetch" => self.fetch.observe(took),
            "prepare" => self.prepare.observe(took),
            "start" => self.start.observe(took),
            "store" => self.store.observe(took),
            _ => {}
        }
    }

    /// An attempt ended so.
    pub(crate) fn end(&self, end: &End) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry((end.outcome, end.reason, end.blame)).or_default() += 1;
    }
}

impl Counted {
    fn hold(&self, sign: i64) {
        let counts = &self.counts;
        for (sum, held) in [&counts.held_cpu_milli, &counts.held_memory_bytes, &counts.held_gpus].iter().zip(self.held)
        {
            sum.fetch_add(sign * held, Ordering::Relaxed);
        }
    }

    /// It is in another phase now.
    pub(crate) fn enter(&mut self, phase: Phase) {
        let next = PHASES.iter().position(|(known, _)| *known == phase);
        let before = std::mem::replace(&mut self.phase, next);
        if let Some(at) = before {
            self.counts.phases[at].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(at) = next {
            self.counts.phases[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.enter(Phase::Ended);
        self.hold(-1);
    }
}

/// The figures of one agent.
pub(crate) struct Told {
    pub desk: Arc<Desk>,
}

impl Source for Told {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        session(page, &self.desk)?;
        attempts(page, &self.desk.counts)?;
        room(page, &self.desk)?;
        cache(page, &self.desk)
    }
}

fn label(name: &'static str, value: impl fmt::Display) -> (&'static str, String) {
    (name, value.to_string())
}

fn session(page: &mut Page<'_>, desk: &Desk) -> fmt::Result {
    let counts = &desk.counts;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let help = "1 if there is a session with the coordinator that leads.";
    page.gauge("flowyard_agent_connected", help, read(&counts.connected) as f64)?;
    page.counter("flowyard_agent_sessions", "Sessions that began.", read(&counts.sessions))?;
    let help = "Sessions that were lost, and tries that led to none.";
    page.counter("flowyard_agent_session_losses", help, read(&counts.losses))?;
    let left_ms = read(&counts.lease_until_ms).saturating_sub(flowyard_clock::boot_ms());
    let help = "How long attempts with on_disconnect = \"stop\" may still run without word from a coordinator.";
    page.gauge("flowyard_agent_lease_remaining_seconds", help, left_ms as f64 / 1e3)?;
    let expires_ms = match &desk.reach {
        Reach::Embedded(_) => 0,
        Reach::Fleet(membership) => membership.own().get().identified().not_after.0,
    };
    let help = "When its certificate ends, since the Unix epoch; 0 if it has none.";
    page.gauge("flowyard_agent_certificate_expires_timestamp_seconds", help, expires_ms as f64 / 1e3)
}

fn attempts(page: &mut Page<'_>, counts: &Counts) -> fmt::Result {
    let phases = PHASES.iter().zip(&counts.phases);
    let rows = phases.map(|((_, name), count)| (vec![label("phase", name)], count.load(Ordering::Relaxed) as f64));
    page.gauges("flowyard_agent_attempts", "Attempts that this agent has, by phase.", rows)?;
    let ended = counts.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let rows = ended.into_iter().map(|((outcome, reason, blame), count)| {
        (
            Labels::from([
                label("outcome", spelled(&outcome)),
                label("reason", spelled(&reason)),
                label("blame", spelled(&blame)),
            ]),
            count,
        )
    });
    page.counters("flowyard_agent_attempts_ended", "Attempts that ended here: how, why, and whose it is.", rows)?;
    let rows =
        [("fetch", &counts.fetch), ("prepare", &counts.prepare), ("start", &counts.start), ("store", &counts.store)];
    let rows = rows.map(|(stage, taken)| (vec![label("stage", stage)], taken));
    let help = "What each stage of an attempt takes beside its process: bringing what it needs, preparing it, starting it, storing it.";
    page.histograms("flowyard_agent_launch_seconds", help, rows)?;
    let bytes = counts.log_bytes.load(Ordering::Relaxed);
    page.counter("flowyard_agent_log_stored_bytes", "Bytes of tasks' logs that were stored.", bytes)
}

fn room(page: &mut Page<'_>, desk: &Desk) -> fmt::Result {
    let (counts, offered) = (&desk.counts, &desk.inventory);
    let held = |sum: &AtomicI64| sum.load(Ordering::Relaxed) as f64;
    page.gauge("flowyard_agent_capacity_cpu_cores", "CPUs that it offers.", offered.cpu_milli as f64 / 1e3)?;
    let help = "CPUs that its attempts hold.";
    page.gauge("flowyard_agent_granted_cpu_cores", help, held(&counts.held_cpu_milli) / 1e3)?;
    page.gauge("flowyard_agent_capacity_memory_bytes", "Memory that it offers.", offered.memory_bytes as f64)?;
    let help = "Memory that its attempts hold.";
    page.gauge("flowyard_agent_granted_memory_bytes", help, held(&counts.held_memory_bytes))?;
    let healthy = offered.gpus.iter().filter(|gpu| gpu.healthy && desk.health.is_well(&gpu.id)).count();
    page.gauge("flowyard_agent_capacity_gpus", "Healthy GPUs that it offers.", healthy as f64)?;
    page.gauge("flowyard_agent_granted_gpus", "GPUs that its attempts hold.", held(&counts.held_gpus))?;
    let disk = rustix::fs::statvfs(&desk.config.folder).ok();
    let bytes = |blocks: Option<u64>| blocks.zip(disk.as_ref()).map_or(0, |(blocks, disk)| blocks * disk.f_frsize);
    let size = bytes(disk.as_ref().map(|disk| disk.f_blocks)) as f64;
    page.gauge("flowyard_agent_disk_bytes", "Size of the disk with its folder.", size)?;
    let free = bytes(disk.as_ref().map(|disk| disk.f_bavail)) as f64;
    page.gauge("flowyard_agent_disk_free_bytes", "What is free of the disk with its folder.", free)
}

fn cache(page: &mut Page<'_>, desk: &Desk) -> fmt::Result {
    let (local, looks) = (desk.store.local(), desk.store.looks());
    page.gauge("flowyard_agent_cache_bytes", "What its copies of blobs take on disk.", local.total_bytes() as f64)?;
    let help = "What its copies of blobs may take before the least used go.";
    page.gauge("flowyard_agent_cache_budget_bytes", help, local.budget_bytes() as f64)?;
    let rows = [("hit", looks.0), ("miss", looks.1)].map(|(result, count)| (vec![label("result", result)], count));
    let help = "Blobs that attempts needed: there already, or brought from the origin.";
    page.counters("flowyard_agent_cache_looks", help, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_counted_in_one_phase_and_nowhere_once_it_is_gone() {
        let counts = Arc::new(Counts::default());
        let (disk_bytes, shm_bytes, tokens, gpus) = (0, 0, BTreeMap::new(), vec![]);
        let resources = Resources { cpu_milli: 500, memory_bytes: 7, disk_bytes, shm_bytes, tokens, gpus };
        let now = || counts.phases.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut counted = counts.attempt(&resources, 2);
        counted.enter(Phase::Accepted);
        counted.enter(Phase::Running);
        assert_eq!(now(), [0, 0, 1, 0]);
        assert_eq!(counts.held_gpus.load(Ordering::Relaxed), 2);
        drop(counted);
        assert_eq!(now(), [0; 4]);
        assert_eq!(counts.held_cpu_milli.load(Ordering::Relaxed), 0);
    }
}
