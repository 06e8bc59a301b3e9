//! Following one job: its present state, then the newest after changes, until it has ended.
//!
//! Each message is the whole state of the job at a revision, and revisions only grow; the histories of attempts are in the objects,
//! so nothing is missed by telling the newest. A message says how many changes it tells together. The end is told at once; other
//! changes at most once in [`MERGED`], since a wide job changes thousands of times per second.
//!
//! A watch goes on at any coordinator: whoever watches says what it saw last, and is told only what is newer. One who is slow to take
//! what it is told is told so, with all there is when it is ready.

use std::time::{Duration, Instant};

use flowyard_model::{JobId, Revision};
use flowyard_proto::api::{WatchJobRequest, WatchJobResponse};
use flowyard_state::View;
use tokio::sync::watch;
use tonic::Status;

use super::{Answers, beside, find_job, jobs, tasks};
use crate::coordinator::Shared;
use crate::feed::Feed;

/// Active tasks told per step.
const ACTIVE_PER_STEP: usize = 8;
/// Changes within this time are told together.
const MERGED: Duration = Duration::from_millis(50);
/// Who does not take a message for so long is slow.
const SLOW: Duration = Duration::from_secs(1);
/// How long a watch that goes on waits until this coordinator knows what was seen at another.
const CATCH_UP: Duration = Duration::from_secs(10);

pub(super) async fn watch(shared: &Shared, request: &WatchJobRequest) -> Result<Answers<WatchJobResponse>, Status> {
    let epoch = shared.epoch;
    let seen = request.after_revision.filter(|_| request.after_epoch == epoch).map(Revision);
    if let Some(seen) = seen {
        let mut views = shared.feed.views();
        let caught_up = tokio::time::timeout(CATCH_UP, views.wait_for(|view| view.revision() >= seen)).await;
        if !matches!(caught_up, Ok(Ok(_))) {
            return Err(Status::unavailable(format!(
                "this coordinator does not know revision {seen} yet; ask another"
            )));
        }
    }
    find_job(&shared.feed.view(), request.job)?;
    let follower = Follower::begin(shared.feed.clone(), epoch, JobId(request.job), request.after_revision, seen);
    Ok(Box::pin(futures::stream::unfold(follower, |mut follower| async move {
        let answer = follower.next().await?;
        Some((answer, follower))
    })))
}

/// A job that is only in the archive has ended: there is one thing to tell.
pub(super) fn archived(view: &View, job: u64) -> Result<Answers<WatchJobResponse>, Status> {
    let (answer, _) = now(view, JobId(job))?;
    Ok(Box::pin(futures::stream::once(async move { Ok(answer) })))
}

/// One client that follows one job.
struct Follower {
    id: JobId,
    feed: Feed,
    epoch: u32,
    changed: watch::Receiver<u64>,
    /// Changes that were told of, by the count of `changed`.
    counted: u64,
    /// When the client was last told something, here or elsewhere.
    told: Option<Instant>,
    /// Whether the next message has to say that it does not go on from the last.
    broken: bool,
    over: bool,
}

impl Follower {
    /// Goes on from `seen`, which is what the client gave if it is of this epoch.
    fn begin(feed: Feed, epoch: u32, id: JobId, given: Option<u64>, seen: Option<Revision>) -> Self {
        let mut changed = feed.job(id);
        let counted = *changed.borrow_and_update();
        let as_seen = seen.is_some_and(|seen| feed.job_unchanged_since(id, seen));
        let told = as_seen.then(flowyard_clock::monotonic);
        // Who has seen the end is told nothing more.
        let over = as_seen && feed.view().job(id).is_some_and(|job| job.ended.is_some());
        Self { id, feed, epoch, changed, counted, told, broken: given.is_some() && seen.is_none(), over }
    }

    async fn next(&mut self) -> Option<Result<WatchJobResponse, Status>> {
        if self.over {
            return None;
        }
        let mut slow = false;
        if let Some(told) = self.told {
            // Asked for this only now: the client had not taken the last one before.
            slow = flowyard_clock::elapsed(told) >= SLOW;
            self.changed.changed().await.ok()?;
            self.settle(told).await;
        }
        let count = *self.changed.borrow_and_update();
        let changes = count.saturating_sub(std::mem::replace(&mut self.counted, count));
        self.told = Some(flowyard_clock::monotonic());
        let resynchronised = std::mem::take(&mut self.broken) || (slow && changes > 1);
        let (view, id, epoch) = (self.feed.view(), self.id, self.epoch);
        let answer = beside(move || now(&view, id)).await;
        self.over = answer.as_ref().map_or(true, |(_, ended)| *ended);
        Some(answer.map(|(answer, _)| WatchJobResponse { epoch, changes, resynchronised, ..answer }))
    }

    /// Waits until enough time has passed since the client was told something, or the job has ended.
    async fn settle(&mut self, told: Instant) {
        let until = tokio::time::Instant::from_std(told + MERGED);
        while self.feed.view().job(self.id).is_some_and(|job| job.ended.is_none()) {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = self.changed.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The job as it is, and whether it has ended.
fn now(view: &View, id: JobId) -> Result<(WatchJobResponse, bool), Status> {
    let (_, job) = find_job(view, id.0)?;
    let active = tasks::some_active(view, id, ACTIVE_PER_STEP);
    let (detail, revision) = (Some(jobs::detail(view, id, &job)), view.revision().0);
    Ok((WatchJobResponse { job: detail, active, revision, ..Default::default() }, job.ended.is_some()))
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Changed, Entry, TimeMs};
    use flowyard_state::{State, apply};

    use super::*;

    /// A state with a job, whose feed tests publish to.
    struct Scene {
        state: State,
        feed: Feed,
        job: JobId,
    }

    impl Scene {
        fn new() -> Self {
            let (mut state, job) = crate::fixture::job();
            let feed = Feed::starting_with(state.view());
            feed.restart(state.view());
            apply(&mut state, Entry { index: Revision(100), time: TimeMs(1), command: flowyard_model::Command::Tick });
            feed.publish(state.view(), &Changed::nothing());
            Self { state, feed, job }
        }

        /// As if something about the job changed.
        fn change(&mut self) -> Revision {
            let index = Revision(self.state.revision().0 + 1);
            apply(&mut self.state, Entry { index, time: TimeMs(1), command: flowyard_model::Command::Tick });
            let mut changed = Changed::nothing();
            changed.jobs.insert(self.job);
            self.feed.publish(self.state.view(), &changed);
            index
        }

        fn follower(&self, seen: Option<Revision>) -> Follower {
            Follower::begin(self.feed.clone(), 0, self.job, seen.map(|seen| seen.0), seen)
        }
    }

    async fn told(follower: &mut Follower) -> Option<WatchJobResponse> {
        let told = tokio::time::timeout(Duration::from_millis(300), follower.next()).await;
        told.ok().map(|told| told.unwrap().unwrap())
    }

    #[tokio::test]
    async fn a_watch_goes_on_from_what_was_seen_and_tells_nothing_again() {
        let mut scene = Scene::new();
        let first = told(&mut scene.follower(None)).await.unwrap();
        assert_eq!((first.revision, first.changes, first.resynchronised), (100, 0, false));
        let changed = scene.change();
        let second = told(&mut scene.follower(Some(Revision(100)))).await.expect("what changed meanwhile");
        assert_eq!((second.revision, second.resynchronised), (changed.0, false));
        let mut third = scene.follower(Some(changed));
        assert!(told(&mut third).await.is_none(), "nothing has changed");
        let changed = scene.change();
        let third = told(&mut third).await.unwrap();
        assert_eq!((third.revision, third.changes), (changed.0, 1));
        // What changed before this coordinator began to count it does not know, and tells all there is.
        scene.feed.restart(scene.state.view());
        assert!(told(&mut scene.follower(Some(Revision(50)))).await.is_some());
    }

    #[tokio::test]
    async fn one_that_saw_another_epoch_or_is_slow_is_told_so() {
        let mut scene = Scene::new();
        let mut other = Follower::begin(scene.feed.clone(), 1, scene.job, Some(700), None);
        let all = told(&mut other).await.unwrap();
        assert!(all.resynchronised && all.epoch == 1 && all.revision == 100);
        let mut slow = scene.follower(None);
        told(&mut slow).await.unwrap();
        scene.change();
        let quick = told(&mut slow).await.unwrap();
        assert_eq!((quick.changes, quick.resynchronised), (1, false));
        for _ in 0..5 {
            scene.change();
        }
        tokio::time::sleep(SLOW).await;
        let late = told(&mut slow).await.unwrap();
        assert_eq!((late.changes, late.resynchronised, late.revision), (5, true, scene.state.revision().0));
        scene.change();
        assert!(!told(&mut slow).await.unwrap().resynchronised, "it has caught up");
    }
}
