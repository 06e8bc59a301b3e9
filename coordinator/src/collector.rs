//! Frees space: retires ended jobs when the stored bytes exceed the budget, and removes blobs that nothing names any more.
//!
//! Invariant: a blob is removed only if no remembered job names it and it is older than [`BLOB_AGE_MS`], so that what a client
//! uploads just before it submits is never taken away.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use flowyard_cas::{LiveBlobs, StoreError, Swept};
use flowyard_model::{JobId, JobSpec, SpecBlobs};
use flowyard_state::View;
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};

use crate::archive::{self, ArchiveError};
use crate::coordinator::Shared;
use crate::durable::Durable;
use crate::holdings::Holdings;
use crate::proposer::Proposer;
use crate::sealing;

/// Age below which an unnamed blob is kept: it may belong to a job that is being submitted.
pub(crate) const BLOB_AGE_MS: u64 = 3 * 3_600 * 1_000;
/// How often space is looked at, first some time after the start.
const LOOK: Duration = Duration::from_secs(3_600);
/// Pages of the archive that one look drops at most.
const PAGES_AT_ONCE: usize = 64;
/// Wait after the start, so that a short command is not slowed by it.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// How long a stop may look after space; twice as long after each that was too short, so that one of them comes to its end.
const LAST_LOOK: Duration = Duration::from_secs(2);
/// The last such doubling: an hour and more.
const LONGEST_LOOK: u32 = 11;

/// The actor. It has no messages.
pub(crate) struct Collector {
    shared: Shared,
    proposer: Proposer,
    wait: Duration,
}

impl Collector {
    /// What it is made from, anew at each term.
    pub(crate) fn new(shared: Shared, proposer: Proposer) -> Self {
        Self { shared, proposer, wait: FIRST_LOOK }
    }
}

impl Actor for Collector {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }

    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                () = tokio::time::sleep(self.wait) => {}
            }
            self.wait = LOOK;
            collect_if_due(&self.shared, &self.proposer).await;
        }
    }
}

/// When space was looked after last, as a file in the coordinator's folder remembers it.
struct Looks {
    path: PathBuf,
    at_ms: Option<u64>,
    /// Looks since then that were cut off by a stop.
    cut_off: u32,
}

impl Looks {
    fn read(shared: &Shared) -> Self {
        let path = shared.config.folder.join("collected");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut words = text.split_whitespace();
        let at_ms = words.next().and_then(|word| word.parse().ok());
        let cut_off = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { path, at_ms, cut_off }
    }

    fn are_due(&self) -> bool {
        let now_ms = flowyard_clock::wall_ms();
        self.at_ms.is_none_or(|at_ms| now_ms < at_ms || now_ms - at_ms >= LOOK.as_millis() as u64)
    }

    fn note(&self, cut_off: u32) {
        if let Err(error) = std::fs::write(&self.path, format!("{} {cut_off}", flowyard_clock::wall_ms())) {
            tracing::warn!(%error, path = %self.path.display(), "the time of the last look could not be noted");
        }
    }
}

/// Looks after space at the end of a short life, as far as there is time.
///
/// A cluster that lives for single commands never sees its hourly look, and would fill the disk in a year.
pub(crate) async fn last_look(shared: &Shared, proposer: &Proposer) {
    let looks = Looks::read(shared);
    let patience = LAST_LOOK * 2_u32.pow(looks.cut_off.min(LONGEST_LOOK));
    if looks.are_due() && tokio::time::timeout(patience, collect_noted(shared, proposer)).await.is_err() {
        tracing::info!(
            "space was not looked after to the end: that takes longer than this stop may; a later one has more time"
        );
        looks.note(looks.cut_off + 1);
    }
}

/// Looks after space, if nobody did for as long as a long life waits.
async fn collect_if_due(shared: &Shared, proposer: &Proposer) {
    if Looks::read(shared).are_due() {
        collect_noted(shared, proposer).await;
    }
}

async fn collect_noted(shared: &Shared, proposer: &Proposer) {
    if let Err(error) = look_after_the_past(shared, proposer).await {
        tracing::warn!(%error, "the archive could not be looked after");
    }
    match collect(shared, proposer).await {
        Ok(()) => Looks::read(shared).note(0),
        Err(error) => tracing::warn!(%error, "space could not be freed"),
    }
}

/// Archives what is due, and drops what is kept no longer.
async fn look_after_the_past(
    shared: &Shared,
    proposer: &Proposer,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    archive::turn(shared, proposer).await?;
    if shared.leading_term().is_ok() {
        archive::drop_expired(shared, proposer).await?;
        sealing::drop_expired(shared, proposer).await?;
    }
    Ok(())
}

/// Keeps the stored bytes within the budget.
///
/// # Errors
/// When the origin cannot be read.
pub(crate) async fn collect(shared: &Shared, proposer: &Proposer) -> Result<(), ArchiveError> {
    let budget = shared.config.storage_budget_bytes;
    sweep(shared, BLOB_AGE_MS).await?;
    let (_, bytes) = shared.durable.here().total().await?;
    if budget == 0 || bytes <= budget {
        return Ok(());
    }
    let jobs = to_forget(shared, bytes - budget).await?;
    if jobs.is_empty() {
        return shrink_archive(shared, proposer, budget).await;
    }
    tracing::info!(jobs = jobs.len(), bytes, budget, "forgetting the oldest jobs to free space");
    if let Err(error) = archive::retire(shared, proposer, &jobs).await {
        tracing::warn!(%error, "old jobs could not be forgotten");
        return Ok(());
    }
    sweep(shared, BLOB_AGE_MS).await.map(drop)
}

/// Drops the oldest pages of the archive until the stored bytes are within the budget.
async fn shrink_archive(shared: &Shared, proposer: &Proposer, budget: u64) -> Result<(), ArchiveError> {
    for _ in 0..PAGES_AT_ONCE {
        let (_, bytes) = shared.durable.here().total().await?;
        if bytes <= budget {
            return Ok(());
        }
        if !archive::drop_oldest(shared, proposer).await? {
            tracing::warn!(
                bytes,
                budget,
                "stored bytes exceed the budget, and no job that could be forgotten holds any"
            );
            return Ok(());
        }
        sweep(shared, BLOB_AGE_MS).await?;
    }
    Ok(())
}

/// The ended jobs to forget so that `wanted` bytes are freed.
async fn to_forget(shared: &Shared, wanted: u64) -> Result<Vec<JobId>, StoreError> {
    let view = shared.feed.view();
    let mut holdings = Holdings::none();
    for (id, job) in view.outlines() {
        holdings.add(&shared.durable, id, named_by(&view, id, job.spec)).await?;
    }
    // What a younger job left behind is too young to be removed now.
    let before_ms = shared.stamps.now().0.saturating_sub(BLOB_AGE_MS);
    let old = |id: &JobId| view.outline(*id).and_then(|job| job.ended).is_some_and(|end| end.at.0 <= before_ms);
    Ok(holdings.forget(view.finished().filter(old), wanted))
}

/// Removes blobs that nothing names and that are older than `min_age_ms`. A copy that lacks something that is named removes nothing:
/// what an artifact names is known only where the artifact is.
///
/// # Errors
/// When the origin cannot be read.
pub(crate) async fn sweep(shared: &Shared, min_age_ms: u64) -> Result<Swept, ArchiveError> {
    match complete(shared).await? {
        Some(live) => remove(shared, &live, min_age_ms).await,
        None => Ok(Swept::default()),
    }
}

/// Brings what this coordinator's copy lacks of what the state names. That is told, unless some of it is with nobody who answers.
///
/// # Errors
/// When the origin cannot be read.
pub(crate) async fn complete(shared: &Shared) -> Result<Option<LiveBlobs>, ArchiveError> {
    let durable = &shared.durable;
    let live = named_by_state(durable, &shared.feed.view()).await?;
    if durable.is_mirrored() {
        let lost = durable.catch_up(&live).await?;
        if lost > 0 {
            tracing::warn!(lost, "blobs that jobs name are with no coordinator that answers; nothing is removed");
            return Ok(None);
        }
    }
    Ok(Some(live))
}

/// Removes what is not named and old, unless a backup is being made: it is of what was named when it began.
///
/// # Errors
/// When the origin cannot be read.
pub(crate) async fn remove(shared: &Shared, live: &LiveBlobs, min_age_ms: u64) -> Result<Swept, ArchiveError> {
    let Ok(_alone) = shared.backups.try_write() else {
        tracing::info!("a backup is being made; no blob is removed meanwhile");
        return Ok(Swept::default());
    };
    // A wall clock that jumps ahead must not make what was just stored look old.
    let now_ms = flowyard_clock::wall_ms().min(shared.stamps.now().0);
    Ok(shared.durable.here().sweep(live, min_age_ms, now_ms).await?)
}

/// Every blob and manifest that the state names: by its jobs, by the archive, by the sealed log.
///
/// # Errors
/// When the archive cannot be read: then nobody knows what it keeps.
pub(crate) async fn named_by_state(durable: &Durable, view: &View) -> Result<LiveBlobs, ArchiveError> {
    let jobs = view.clone();
    // Nobody else has to wait while a million tasks are gone through.
    let named = tokio::task::spawn_blocking(move || named_by_jobs(&jobs)).await;
    let mut live =
        named.map_err(|panic| ArchiveError::Unreadable { what: "jobs".to_owned(), why: panic.to_string() })?;
    sealing::add_live(view, &mut live);
    archive::add_live(durable, view, &mut live).await?;
    Ok(live)
}

/// Every blob and manifest that a remembered job names, and what secrets are encrypted in.
fn named_by_jobs(view: &View) -> LiveBlobs {
    let mut live = LiveBlobs::default();
    for (id, job) in view.outlines() {
        let named = named_by(view, id, job.spec);
        live.manifests.extend(named.manifests);
        live.blobs.extend(named.blobs);
    }
    live.blobs.extend(view.secrets().map(|(_, kept)| kept.sealed));
    live
}

/// Every blob and manifest that one job names.
pub(crate) fn named_by(view: &View, id: JobId, spec: &JobSpec) -> LiveBlobs {
    let SpecBlobs { manifests, lists } = spec.blobs();
    let mut named = LiveBlobs { manifests: manifests.into_iter().collect(), blobs: lists.into_iter().collect() };
    for (_, task) in view.tasks_of(id) {
        let members = task.attempts.iter().flat_map(|attempt| &attempt.members);
        for end in members.filter_map(|member| member.end.as_ref()) {
            named.manifests.extend(end.outputs.values().map(|output| output.manifest));
            named.blobs.extend(end.outputs.values().filter_map(|output| Some(output.list?.items)));
            named.blobs.extend([end.logs.stdout, end.logs.stderr].into_iter().flatten());
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flowyard_cas::Origin;
    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};

    use super::*;
    use crate::fixture;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_does_not_wait_until_every_blob_was_looked_for() {
        // As with so many blobs that going through them takes an hour.
        let slow = ThrottleConfig { wait_list_per_call: HOUR, ..ThrottleConfig::default() };
        let blobs = Origin::in_objects(Arc::new(ThrottledStore::new(InMemory::new(), slow)));
        let (coordinator, folder) = fixture::coordinator_over(blobs).await;
        tokio::time::timeout(Duration::from_secs(60), coordinator.shutdown()).await.expect("it stops");
        let noted = std::fs::read_to_string(folder.path().join("coordinator/collected")).unwrap();
        assert!(noted.ends_with(" 1"), "it was not looked to the end: {noted}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_short_life_ends_with_a_look_after_space() {
        let (coordinator, folder) = fixture::coordinator().await;
        coordinator.shutdown().await;
        assert!(folder.path().join("coordinator/collected").exists());
    }

    #[tokio::test]
    async fn each_look_that_was_cut_off_gives_the_next_stop_more_time_and_waits_an_hour() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let looks = Looks::read(coordinator.shared());
        assert!(looks.are_due() && looks.cut_off == 0);
        looks.note(1);
        let looks = Looks::read(coordinator.shared());
        assert!(!looks.are_due(), "whoever types command after command waits once an hour");
        assert_eq!(looks.cut_off, 1);
        std::fs::write(&looks.path, "1 1").unwrap();
        last_look(coordinator.shared(), &coordinator.shared().proposer).await;
        assert_eq!(Looks::read(coordinator.shared()).cut_off, 0, "one that comes to its end is remembered as such");
        coordinator.shutdown().await;
    }
}
