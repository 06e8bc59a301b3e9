//! Frees space: forgets ended jobs when the stored bytes exceed the budget, and removes blobs that nothing names any more.
//!
//! Invariant: a blob is removed only if no remembered job names it and it is older than [`BLOB_AGE_MS`], so that what a client
//! uploads just before it submits is never taken away.

use std::convert::Infallible;
use std::time::Duration;

use flowyard_cas::{LiveBlobs, StoreError, Swept};
use flowyard_model::{Command, Digest, FanOut, Image, Input, JobId, limits};
use flowyard_state::View;
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};

use crate::coordinator::Shared;

/// Age below which an unnamed blob is kept: it may belong to a job that is being submitted.
pub(crate) const BLOB_AGE_MS: u64 = 3 * 3_600 * 1_000;
/// How often space is looked at, first some time after the start.
const LOOK: Duration = Duration::from_secs(3_600);
/// Wait after the start, so that a short command is not slowed by it.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// The actor. It has no messages.
pub(crate) struct Collector {
    shared: Shared,
    wait: Duration,
}

impl Collector {
    /// What it is made from, anew at each term.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared, wait: FIRST_LOOK }
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
            collect_if_due(&self.shared).await;
        }
    }
}

/// Looks after space at the end of a short life, if nobody did for as long as a long one would wait.
///
/// A cluster that lives for single commands never sees its hourly look, and would fill the disk in a year.
pub(crate) async fn collect_if_due(shared: &Shared) {
    let note = shared.config.folder.join("collected");
    let noted = std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let now_ms = flowyard_clock::wall_ms();
    if noted.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < LOOK.as_millis() as u64 && at_ms <= now_ms) {
        return;
    }
    match collect(shared).await {
        Ok(()) => {
            if let Err(error) = std::fs::write(&note, now_ms.to_string()) {
                tracing::warn!(%error, path = %note.display(), "the time of the last look could not be noted");
            }
        }
        Err(error) => tracing::warn!(%error, "space could not be freed"),
    }
}

/// Keeps the stored bytes within the budget.
///
/// # Errors
/// When the origin cannot be read.
pub(crate) async fn collect(shared: &Shared) -> Result<(), StoreError> {
    let budget = shared.config.storage_budget_bytes;
    sweep(shared, BLOB_AGE_MS).await?;
    loop {
        let (_, bytes) = shared.origin.total().await?;
        if budget == 0 || bytes <= budget {
            return Ok(());
        }
        // A tenth of the remembered jobs, at least one: few rounds, and little forgotten beyond need.
        let ended: Vec<JobId> = shared.feed.view().finished().collect();
        let oldest: Vec<JobId> = ended.iter().take((ended.len() / 10).max(1)).copied().collect();
        if oldest.is_empty() {
            tracing::warn!(bytes, budget, "stored bytes exceed the budget, and no ended job is left to forget");
            return Ok(());
        }
        tracing::info!(jobs = oldest.len(), bytes, budget, "forgetting the oldest jobs to free space");
        for jobs in oldest.chunks(limits::WORK_PER_TICK) {
            if let Err(error) = shared.proposer.propose(&Command::ForgetJobs { jobs: jobs.to_vec() }).await {
                tracing::warn!(%error, "old jobs could not be forgotten");
                return Ok(());
            }
        }
        if sweep(shared, BLOB_AGE_MS).await?.deleted == 0 {
            // What is young is kept, whoever forgot it; forgetting more would free nothing now.
            return Ok(());
        }
    }
}

/// Removes blobs that nothing names and that are older than `min_age_ms`.
///
/// # Errors
/// When the origin cannot be read.
pub(crate) async fn sweep(shared: &Shared, min_age_ms: u64) -> Result<Swept, StoreError> {
    let view = shared.feed.view();
    shared.origin.sweep(&named_by_jobs(&view), min_age_ms, flowyard_clock::wall_ms()).await
}

/// Every blob and manifest that a remembered job names.
fn named_by_jobs(view: &View) -> LiveBlobs {
    let (mut manifests, mut blobs): (Vec<Digest>, Vec<Digest>) = (Vec::new(), Vec::new());
    for (id, job) in view.jobs() {
        for step in &job.spec.steps {
            manifests.extend(step.code);
            if let Image::Stored { manifest, .. } = &step.image {
                manifests.push(*manifest);
            }
            if let FanOut::Items(list) = &step.fan_out {
                blobs.push(list.items);
            }
            manifests.extend(step.inputs.values().filter_map(|input| match input {
                Input::Stored { manifest } => Some(*manifest),
                Input::Output { .. } => None,
            }));
        }
        for (_, task) in view.tasks_of(id) {
            for end in
                task.attempts.iter().flat_map(|attempt| &attempt.members).filter_map(|member| member.end.as_ref())
            {
                manifests.extend(end.outputs.values().map(|output| output.manifest));
                blobs.extend(end.outputs.values().filter_map(|output| Some(output.list?.items)));
                blobs.extend([end.logs.stdout, end.logs.stderr].into_iter().flatten());
            }
        }
    }
    LiveBlobs { manifests, blobs }
}
