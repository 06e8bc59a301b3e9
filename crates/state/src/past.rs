//! Where the past is kept in the origin: pages of the archive, segments of the log.
//!
//! Invariant: a job that leaves with `ArchiveJobs` leaves in the entry that makes its page the current one, so it is in the state
//! or in the archive, and a crash in between changes nothing. Segments follow each other, and each names the chain before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    ArchiveJobs, ArchivePage, Changed, Fingerprint, JobId, LogSegment, Record, Rejection, Reply, SealSegments,
    TaskIndex,
};

use crate::forget::forget;
use crate::state::State;

/// Applies `ArchiveJobs`: all of it, or nothing if a page is not as it was read.
pub(crate) fn archive_jobs(state: &mut State, changed: &mut Changed, wish: ArchiveJobs) -> Reply {
    let mut seen = BTreeSet::new();
    for change in &wish.pages {
        let now = state.archive.get(&change.page).map(|page| page.rows);
        if now != change.was || !seen.insert(change.page) {
            return Reply::Rejected(Rejection::PastMoved { what: format!("page {} of the archive", change.page) });
        }
    }
    for change in wish.pages {
        match change.now {
            Some(page) => drop(state.archive.insert(change.page, page)),
            None => drop(state.archive.remove(&change.page)),
        }
    }
    for job in wish.jobs {
        forget(state, changed, job);
    }
    Reply::Done
}

/// Applies `SealSegments`: all of it, or nothing if it does not go on from the last segment.
pub(crate) fn seal_segments(state: &mut State, wish: &SealSegments) -> Reply {
    let mut last = state.last_segment().copied();
    for segment in &wish.sealed {
        if !follows(last.as_ref(), segment) {
            return Reply::Rejected(Rejection::PastMoved { what: "the sealed log".to_owned() });
        }
        last = Some(*segment);
    }
    state.segments.extend(wish.sealed.iter().map(|segment| (segment.first, *segment)));
    for first in &wish.dropped {
        if last.is_some_and(|last| last.first != *first) {
            state.segments.remove(first);
        }
    }
    Reply::Done
}

fn follows(last: Option<&LogSegment>, next: &LogSegment) -> bool {
    let before = last.map_or(Fingerprint([0; 32]), |last| last.chain);
    next.first <= next.last && last.is_none_or(|last| last.last < next.first) && next.before == before
}

impl State {
    /// A page of the archive.
    pub fn archive_page(&self, page: u64) -> Option<&ArchivePage> {
        self.archive.get(&page)
    }

    /// All pages of the archive, by number; both directions.
    pub fn archive_pages(&self) -> impl DoubleEndedIterator<Item = (u64, &ArchivePage)> {
        self.archive.iter().map(|(page, it)| (*page, it))
    }

    /// The sealed segments of the log, oldest first; both directions.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &LogSegment> {
        self.segments.values()
    }

    /// The last sealed segment.
    pub fn last_segment(&self) -> Option<&LogSegment> {
        self.segments.get_max().map(|(_, segment)| segment)
    }

    /// Everything about one job, as records of a state of its own: its queue, the nodes it ran on, steps and tasks.
    pub fn job_records(&self, id: JobId) -> Vec<Record> {
        let Some(job) = self.job(id) else { return Vec::new() };
        let mut nodes = BTreeSet::new();
        let mut work = Vec::new();
        for (index, step) in self.steps(id) {
            work.push(Record::Step(id, index, Arc::clone(&step)));
            for (task, it) in self.tasks_from(id, index, TaskIndex(0)) {
                nodes.extend(it.attempts.iter().flat_map(|attempt| &attempt.members).map(|member| member.node));
                let key = flowyard_model::TaskKey { job: id, step: index, task };
                work.push(Record::Task(key, it.clone()));
            }
        }
        // Steps before tasks, as a snapshot has them.
        work.sort_by_key(|record| matches!(record, Record::Task(..)));
        let queue = self.queue(&job.spec.queue).cloned().map(Record::Queue);
        let nodes = nodes.into_iter().filter_map(|id| Some(Record::Node(id, self.node(id)?.clone())));
        let mut records = vec![Record::Meta(self.meta)];
        records.extend(queue.into_iter().chain(nodes));
        records.push(Record::Job(id, Arc::clone(&job)));
        records.extend(work);
        records
    }
}
