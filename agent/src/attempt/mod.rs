//! One attempt's way through its phases: fetch, run, store. One task per live attempt; its mailbox is a watch that says
//! whether it should stop.
//!
//! Invariant: whatever happens, exactly one end is reported, and logs are stored before it.

pub mod ending;
pub mod environment;
mod fetch;
pub mod gang;
mod handed;
mod images;
mod launch;
mod saved;
pub(crate) mod secrets;
mod stages;
mod store;
mod watchdog;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flowyard_cas::Store;
use flowyard_model::{
    AttemptOutcome, AttemptReport, Blame, DesiredMember, End, Epoch, Gang, Inventory, MemberKey, Phase, PhaseTimes,
    Reason, StepContext, StepSpec, StopTerms, StuckLimits, StuckPhase, TimeMs,
};
use flowyard_telemetry::traces::Exporter;
use futures::FutureExt;
use kameo::actor::ActorRef;
use tokio::sync::{mpsc, watch};

use self::ending::{bare, platforms, stuck_end};
pub(crate) use self::fetch::WORK;
pub use self::handed::Handed;
pub(crate) use self::handed::{LAUNCHED, launched};
pub use self::images::Images;
use self::saved::Saved;
use self::stages::{FETCH, PREPARE, RUN, START, STORE, Stages};
use crate::config::AgentConfig;
use crate::counts::{Counted, Counts};
use crate::fleet::Reach;
use crate::inventory::health::Health;
use crate::launcher::protocol::Stopping;
use crate::launcher::read_exit;
use crate::launches::{LaunchEvent, LaunchRequest, Launches, Serving};
use crate::network::Networks;
use crate::runtime::spec::{ExitCause, ExitRecord};
use crate::tasks::Tasks;
use crate::users::UserRanges;

/// What all attempts of an agent share.
#[derive(Debug)]
pub struct Desk {
    /// The operator's settings.
    pub config: AgentConfig,
    /// Bytes.
    pub store: Store,
    /// Processes.
    pub launches: ActorRef<Launches>,
    /// Whether a coordinator has said what it wants, and whatever it does not want any more was asked to stop.
    pub heard: watch::Sender<bool>,
    /// Which launcher serves.
    pub serving: watch::Receiver<Option<Serving>>,
    /// Unpacked images.
    pub images: Images,
    /// Where tasks of attempts are started.
    pub tasks: Tasks,
    /// Users that attempts have to themselves, if they do.
    pub(crate) users: Option<UserRanges>,
    /// Networks that attempts have to themselves.
    pub(crate) networks: Arc<Networks>,
    /// What the node offers; grants are positions in it.
    pub inventory: Arc<Inventory>,
    /// How well its devices are.
    pub(crate) health: Arc<Health>,
    /// How long an attempt may make no progress, as the cluster says.
    pub stuck: watch::Sender<StuckLimits>,
    /// How coordinators are reached.
    pub reach: Reach,
    /// What is counted, for its operator.
    pub(crate) counts: Arc<Counts>,
    /// Who is told what is done for each job, if anybody is.
    pub(crate) exporter: Option<Exporter>,
    /// The cluster, once it is known.
    pub(crate) cluster: watch::Sender<String>,
}

impl Desk {
    /// The folder of an attempt's member. Those of different epochs are different work, whatever their numbers, and so is whoever has
    /// the rank of a member that was replaced.
    pub fn folder(&self, key: MemberKey) -> PathBuf {
        let task = key.task;
        let mut name = format!("{}-{}-{}-{}.{}", task.job, task.step, task.task, key.attempt, key.rank);
        if key.epoch != Epoch(0) {
            name.push_str(&format!("-e{}", key.epoch));
        }
        if key.replacement != 0 {
            name.push_str(&format!("-r{}", key.replacement));
        }
        self.config.attempts().join(name)
    }
}

/// How late the driver may tell of what ended a program.
const LATE_ERROR: Duration = Duration::from_millis(400);

/// Where an attempt's news go.
pub type News = mpsc::Sender<AttemptReport>;

/// How far an attempt had come when its agent died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Not at all.
    Not,
    /// It was taken; whether its process was started is in its folder.
    Before,
}

/// One attempt on its way.
pub struct Attempt {
    desk: Arc<Desk>,
    context: Arc<StepContext>,
    member: DesiredMember,
    folder: PathBuf,
    times: PhaseTimes,
    /// Where it makes, or made, no progress.
    stuck: Option<StuckPhase>,
    /// Whether its process was given up before it was heard to run.
    never_started: bool,
    saved: Saved,
    news: News,
    stop: watch::Receiver<Option<StopTerms>>,
    /// Its gang as it is now, where it is another than it was.
    gang: watch::Receiver<Option<Gang>>,
    counted: Counted,
    stages: Stages,
}

impl Attempt {
    /// An attempt that has not begun.
    pub fn new(
        desk: Arc<Desk>,
        context: Arc<StepContext>,
        member: DesiredMember,
        news: News,
        (stop, gang): (watch::Receiver<Option<StopTerms>>, watch::Receiver<Option<Gang>>),
    ) -> Self {
        let folder = desk.folder(member.key);
        let counted = desk.counts.attempt(&context.spec.resources, member.gpus.len());
        let (times, stages) = (PhaseTimes::NONE, Stages::default());
        let saved = Saved::default();
        Self {
            desk,
            context,
            member,
            folder,
            times,
            stuck: None,
            never_started: false,
            saved,
            news,
            stop,
            gang,
            counted,
            stages,
        }
    }

    /// Walks all phases and reports the end.
    pub async fn walk(mut self, begun: Begun) {
        self.times.accepted = Some(now());
        self.report(Phase::Accepted, None).await;
        let end = match self.run(begun).await {
            Ok(end) => end,
            Err(end) => end,
        };
        let end = self.blamed_on_devices(end).await;
        if end.reason == Reason::Stuck {
            self.stuck.get_or_insert(StuckPhase::Fetching);
        }
        secrets::forget(&self.desk, &self.member);
        self.saved.look(&self.folder);
        self.times.storing = Some(now());
        self.report(Phase::Storing, None).await;
        self.stages.go_over_to(STORE);
        let end = self.store(end).await;
        self.stages.end(&self.desk.counts);
        if let Some(exporter) = &self.desk.exporter {
            self.stages.tell(exporter, &self.desk.cluster.borrow(), self.member.key);
        }
        self.desk.counts.end(&end);
        let logs = [&end.logs.stdout, &end.logs.stderr].into_iter().flatten().map(|log| log.length);
        self.desk.counts.log_bytes.fetch_add(logs.sum(), Ordering::Relaxed);
        self.times.ended = Some(now());
        self.report(Phase::Ended, Some(Arc::new(end))).await;
    }

    /// The end as it counts where a device that it held had an error while it ran: its program cannot be blamed for what it
    /// made of that. The driver may tell of the error a little after the program has ended.
    async fn blamed_on_devices(&self, end: End) -> End {
        let failed = end.outcome == AttemptOutcome::Failed && matches!(end.reason, Reason::Exit | Reason::Signal);
        let Some(since) = self.times.running.filter(|_| failed && !self.member.gpus.is_empty()) else { return end };
        let find = |index: &flowyard_model::GpuIndex| self.desk.inventory.gpus.get(index.0 as usize).cloned();
        let gpus: Vec<_> = self.member.gpus.iter().filter_map(find).collect();
        let mut struck = self.desk.health.struck_since(&gpus, since.0);
        if struck.is_none() {
            tokio::time::sleep(LATE_ERROR).await;
            struck = self.desk.health.struck_since(&gpus, since.0);
        }
        match struck {
            Some(message) => End { message, reason: Reason::Device, blame: Blame::Hardware, ..end },
            None => end,
        }
    }

    /// Stores what is kept of it. What cannot be stored in time is given up.
    async fn store(&mut self, end: End) -> End {
        let (desk, context, folder) = (Arc::clone(&self.desk), Arc::clone(&self.context), self.folder.clone());
        let (peak_memory_bytes, cpu_us) = (end.peak_memory_bytes, end.cpu_us);
        let storing = store::all(&desk.store, &context, (self.member.key.rank, &folder), end);
        tokio::select! {
            end = storing => end,
            phase = self.watchdog(StuckPhase::Storing) => End { peak_memory_bytes, cpu_us, ..self.stuck_in(phase) },
        }
    }

    /// Returns when nothing has moved for too long. What moves is counted for the whole node; a single blob that stops coming is
    /// noticed by the store.
    fn watchdog(&self, phase: StuckPhase) -> impl Future<Output = StuckPhase> + Send + use<> {
        let counts = matches!(phase, StuckPhase::Fetching | StuckPhase::Storing);
        let moved = move || if counts { flowyard_cas::hashed_bytes() } else { 0 };
        watchdog::stuck(self.desk.stuck.subscribe(), phase, moved)
    }

    /// The end of an attempt that made no progress.
    fn stuck_in(&mut self, phase: StuckPhase) -> End {
        self.stuck = Some(phase);
        stuck_end(phase, self.desk.stuck.borrow().of(phase))
    }

    /// Everything up to the end of the process. Both sides are ends; an error is one before the process ran.
    async fn run(&mut self, begun: Begun) -> Result<End, End> {
        let launched = begun == Begun::Before && self.folder.join(LAUNCHED).exists();
        let (sender, mut events) = mpsc::channel(4);
        // What was fetched stays pinned until the process has ended.
        let _pinned;
        if launched {
            if let Ok(Some(record)) = read_exit(&self.folder) {
                return Ok(self.exited(&record));
            }
            let (folder, handed) = (self.folder.clone(), Handed::read(&self.folder).map(Box::new));
            self.ask(LaunchRequest::Adopt { folder, handed, listener: sender }).await?;
            let (desk, context, member) = (Arc::clone(&self.desk), Arc::clone(&self.context), self.member.clone());
            // Beside watching it: what cannot be pinned now, since the origin is away, must not keep it from being adopted.
            let pinned = async {
                let _trees = fetch::pin(&desk, &context, &member).await;
                std::future::pending::<Infallible>().await
            };
            return tokio::select! {
                end = self.watch(&mut events) => end,
                never = pinned => match never {},
            };
        } else {
            if begun == Begun::Before {
                self.still_wanted().await?;
            }
            self.times.fetching = Some(now());
            self.counted.enter(Phase::Fetching);
            self.stages.begin(FETCH, &self.desk.counts);
            let mut stop = self.stop.clone();
            let fetched = tokio::select! {
                fetched = fetch::fetch(&self.desk, &self.context, &self.member, &self.folder) => fetched?,
                () = stopped(&mut stop) => return Err(stopped_early()),
                phase = self.watchdog(StuckPhase::Fetching) => return Err(self.stuck_in(phase)),
            };
            self.stages.begin(PREPARE, &self.desk.counts);
            let laid = tokio::select! {
                laid = secrets::bring(&self.desk, &self.context, &self.member, fetched.user) => laid?,
                () = stopped(&mut stop) => return Err(stopped_early()),
            };
            let regrouped = self.gang.borrow().clone();
            self.member.gang = regrouped.or(self.member.gang.take());
            let spec = launch::spec(&self.desk, &self.context, &self.member, &self.folder, &fetched, laid)?;
            _pinned = fetched;
            let launcher = self.desk.serving.borrow().as_ref().and_then(|serving| serving.launcher.clone());
            launch::understood(&spec, launcher.as_deref())?;
            let handed = Box::new(Handed { spec, launcher });
            handed.write().map_err(|error| disk_failure(FOLDER, &error))?;
            self.stages.begin(START, &self.desk.counts);
            self.ask(LaunchRequest::Start { handed, listener: sender }).await?;
        }
        self.watch(&mut events).await
    }

    /// Returns once a coordinator is heard to want it still: while its agent was away its job may have been cancelled, or the task
    /// given to another node.
    async fn still_wanted(&self) -> Result<(), End> {
        // The sender lives as long as the desk.
        let _ = self.desk.heard.subscribe().wait_for(|heard| *heard).await;
        if self.stop.borrow().is_some() { Err(stopped_early()) } else { Ok(()) }
    }

    /// Follows the process to its end, and asks it to stop once that is wanted. One that is killed and does not go away is told
    /// of, and waited for: it still uses what it was given.
    async fn watch(&mut self, events: &mut mpsc::Receiver<LaunchEvent>) -> Result<End, End> {
        let (mut asked, mut watched) = (None, true);
        let mut stuck = self.watchdog(StuckPhase::Starting).boxed();
        let mut looks = tokio::time::interval(saved::LOOK);
        loop {
            let (mut stop, mut gang) = (self.stop.clone(), self.gang.clone());
            let generation = self.member.gang.as_ref().map_or(0, |gang| gang.generation);
            tokio::select! {
                event = events.recv() => match event {
                    Some(LaunchEvent::Started { at_ms }) => {
                        self.times.running = Some(TimeMs(at_ms));
                        self.stages.begin_since(RUN, at_ms * 1_000, &self.desk.counts);
                        self.report(Phase::Running, None).await;
                        if asked.is_none() {
                            // Its timeout kills it without asking anybody here.
                            watched = self.context.spec.timeout_ms.is_some();
                            stuck = self.gone_after(self.timeout_left(at_ms)).boxed();
                        }
                    }
                    Some(LaunchEvent::Unasked) => {
                        self.still_wanted().await?;
                        self.ask(LaunchRequest::Begin { folder: self.folder.clone() }).await?;
                    }
                    Some(LaunchEvent::Ended(record)) => return Ok(self.exited(&record)),
                    Some(LaunchEvent::Gone) | None => return Ok(self.vanished()),
                },
                phase = &mut stuck, if watched => {
                    if phase == StuckPhase::Starting {
                        asked = Some(StopTerms::default());
                        self.never_started = true;
                        self.ask_to_stop(Stopping::within(Some(0))).await?;
                        stuck = self.gone_after(0).boxed();
                    } else {
                        watched = false;
                        self.stuck = Some(phase);
                        let known = if self.times.running.is_some() { Phase::Running } else { Phase::Fetching };
                        self.report(known, None).await;
                    }
                }
                _ = looks.tick(), if self.times.running.is_some() => {
                    if self.saved.is_news(&self.folder, flowyard_clock::boot_ms()) {
                        self.report(Phase::Running, None).await;
                    }
                }
                gang = regrouped(&mut gang, generation) => self.regroup(gang),
                terms = asked_anew(&mut stop, asked) => {
                    (asked, watched) = (Some(terms), true);
                    let stopping = stopping(&self.context.spec, terms);
                    self.ask_to_stop(stopping).await?;
                    let grace_ms = stopping.grace_ms.unwrap_or(self.context.spec.kill_grace_ms);
                    stuck = self.gone_after(stopping.notice_ms.unwrap_or(0).saturating_add(grace_ms)).boxed();
                }
            }
        }
    }

    /// Its gang is another than it was: its process is told in files.
    fn regroup(&mut self, gang: Gang) {
        if let Err(error) = gang::write(&self.folder, &gang) {
            tracing::error!(key = ?self.member.key, %error, "a member cannot be told who else is in its gang now");
        }
        self.member.gang = Some(gang);
    }

    async fn ask_to_stop(&self, stopping: Stopping) -> Result<(), End> {
        self.ask(LaunchRequest::Stop { folder: self.folder.clone(), stopping }).await
    }

    /// Returns when a process that is killed after `kill_ms` is still there too long afterwards.
    fn gone_after(&self, kill_ms: u64) -> impl Future<Output = StuckPhase> + Send + use<> {
        let stuck = self.watchdog(StuckPhase::Stopping);
        async move {
            tokio::time::sleep(Duration::from_millis(kill_ms)).await;
            stuck.await
        }
    }

    /// When its timeout will have killed a process that runs since `at_ms`.
    fn timeout_left(&self, at_ms: u64) -> u64 {
        let spec = &self.context.spec;
        let until = at_ms.saturating_add(spec.timeout_ms.unwrap_or(0)).saturating_add(spec.kill_grace_ms);
        until.saturating_sub(flowyard_clock::wall_ms())
    }

    /// Nobody knows of its process.
    fn vanished(&mut self) -> End {
        if self.never_started { self.stuck_in(StuckPhase::Starting) } else { lost() }
    }

    fn exited(&mut self, record: &ExitRecord) -> End {
        self.times.running = self.times.running.or(record.started_at_ms.map(TimeMs));
        if self.never_started {
            return self.stuck_in(StuckPhase::Starting);
        }
        let unasked = record.cause == ExitCause::Stopped && self.stop.borrow().is_none();
        let mut end = if unasked { interrupted() } else { ending::of_exit(record) };
        if matches!(end.reason, Reason::Exit | Reason::Signal) && end.outcome == AttemptOutcome::Failed {
            mention_full_disk(&mut end, &self.folder);
        }
        end
    }

    async fn ask(&self, request: LaunchRequest) -> Result<(), End> {
        let asked = self.desk.launches.tell(request).await;
        asked.map_err(|error| platforms(Reason::Sandbox, format!("the launcher cannot be asked: {error}")))
    }

    async fn report(&mut self, phase: Phase, end: Option<Arc<End>>) {
        self.counted.enter(phase);
        let report = AttemptReport {
            member: self.member.key,
            phase,
            times: self.times,
            end,
            checkpoint: None,
            stuck: self.stuck,
            saved_at: self.saved.at,
        };
        // Nobody listens once the agent shuts down; the next one adopts.
        let _ = self.news.send(report).await;
    }
}

fn now() -> TimeMs {
    TimeMs(flowyard_clock::wall_ms())
}

/// How a process of this step is asked to stop: its own notice and grace, within what the terms allow.
fn stopping(spec: &StepSpec, terms: StopTerms) -> Stopping {
    let grace_ms = terms.kill_within_ms.map(|most| most.min(spec.kill_grace_ms));
    let notice_ms = spec.notice.zip(terms.notice_ms).map(|(notice, most)| notice.ms.min(most)).filter(|ms| *ms > 0);
    Stopping { notice_ms, grace_ms }
}

async fn stopped(stop: &mut watch::Receiver<Option<StopTerms>>) {
    asked_anew(stop, None).await;
}

/// Returns when its gang is of a later generation than this.
async fn regrouped(gang: &mut watch::Receiver<Option<Gang>>, generation: u32) -> Gang {
    // The sender lives as long as the agent.
    match gang
        .wait_for(|gang| gang.as_ref().is_some_and(|gang| gang.generation > generation))
        .await
        .map(|it| it.clone())
    {
        Ok(Some(gang)) => gang,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Returns when it is to be asked to stop in another way than it was.
async fn asked_anew(stop: &mut watch::Receiver<Option<StopTerms>>, asked: Option<StopTerms>) -> StopTerms {
    // The sender lives as long as the agent.
    match stop.wait_for(|stop| stop.is_some() && *stop != asked).await.map(|stop| *stop) {
        Ok(Some(terms)) => terms,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Writes a file that the task is to read, whatever this process makes of its own files.
fn write_shown(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

/// The end of an attempt that was asked to stop before its process was started.
pub fn stopped_early() -> End {
    bare(AttemptOutcome::Stopped, Reason::Cancelled, Blame::User, "stopped before the command was started")
}

/// The end of an attempt that was stopped with its launcher, and not by its job.
fn interrupted() -> End {
    let message = "the cluster was shut down while it ran; it is tried again";
    bare(AttemptOutcome::Lost, Reason::NodeLost, Blame::Platform, message)
}

/// The end of an attempt that the coordinator knows to have begun, and of which nothing is left here.
pub fn lost() -> End {
    bare(
        AttemptOutcome::Lost,
        Reason::NodeLost,
        Blame::Platform,
        "the node was restarted, or its agent's folder removed",
    )
}

/// A program on a full disk fails in its own way, and its words are not kept: there is no room for them.
fn mention_full_disk(end: &mut End, folder: &Path) {
    const ROOM_BYTES: u64 = 1 << 20;
    if let Ok(disk) = rustix::fs::statvfs(folder)
        && disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES
    {
        end.message.push_str("; the disk with its working directory is full");
    }
}

/// How an attempt's folder is called in messages: where the agent keeps it is not the user's business.
const FOLDER: &str = "the attempt's folder";

/// The end of an attempt for which something could not be written.
pub(crate) fn disk_failure(subject: &str, error: &std::io::Error) -> End {
    let reason = if error.raw_os_error() == Some(libc::ENOSPC) { Reason::Disk } else { Reason::Sandbox };
    platforms(reason, format!("{subject}: {error}"))
}

#[cfg(test)]
mod tests;
