//! Group commit: one thread, one queue, one barrier for everything that waits.
//!
//! Owns the engine's files while the log is open. Submitters play their operations on the [`Shadow`] and queue them under one
//! lock; the thread takes all that is queued, writes it as one batch, waits for the barrier, then runs the callbacks.
//! There is no timer: a lone submit is written at once, and whatever arrives during its barrier forms the next batch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use flowyard_telemetry::Distribution;
use flowyard_telemetry::distribution::SHORT;

use super::disk::{self, Batch, Loaded, LogDisk, Sweep};
use super::engine_error::{DiskError, EngineError};
use super::latency::LatencyWindow;
use super::shadow::Shadow;
use super::witness::Witness;
use super::{Callback, EngineState, EngineStats, LogEngine, LogPoint, Op, Record};

/// Submits that may wait in the queue; one more waits for room.
const QUEUE_JOBS_MAX: usize = 8192;
/// Payload bytes that may wait in the queue.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Payload bytes of one batch, so that a barrier never covers more than the disk writes in a moment.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Purged values removed along with a batch that somebody waits for.
const SWEEP_BUSY_VALUES: usize = 64;
/// Purged values removed at once while nobody waits.
const SWEEP_IDLE_VALUES: usize = 512;

/// File bytes per live byte above which something is wrong with the engine.
const AMPLIFICATION_ALARM: u64 = 20;

/// A [`LogEngine`] over an engine's files.
pub struct GroupLog {
    shared: Arc<Shared>,
    /// Taken when the log is closed; the files are released with the last reader.
    disk: Mutex<Option<Arc<dyn LogDisk>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    lock: Mutex<Queue>,
    /// How long batches took.
    fsyncs: Arc<Distribution>,
    /// Something was queued, or the log closes.
    work: Condvar,
    /// The queue got shorter.
    room: Condvar,
}

#[derive(Default)]
struct Queue {
    shadow: Shadow,
    jobs: VecDeque<Job>,
    bytes: usize,
    sequence: u64,
    /// A commit mark that is not in a queued job; it goes with the next batch.
    committed_unsaved: bool,
    end: Option<EngineError>,
    batches: u64,
    appended: u64,
    latency: LatencyWindow,
}

struct Job {
    ops: Vec<Op>,
    bytes: usize,
    sequence: u64,
    /// What the log holds once this job is durable.
    after: EngineState,
    done: Callback,
}

impl GroupLog {
    pub(super) fn start(disk: Arc<dyn LogDisk>, witness: Witness, loaded: Loaded) -> Result<Self, DiskError> {
        let (unswept, start) = (loaded.unswept, loaded.start);
        let queue = Queue { shadow: Shadow::new(loaded), ..Queue::default() };
        let shared = Arc::new(Shared::of(queue));
        let writer = Writer { disk: disk.clone(), shared: shared.clone(), witness, unswept, start };
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run())
            .map_err(DiskError::io("raft-log thread"))?;
        Ok(Self { shared, disk: Mutex::new(Some(disk)), thread: Mutex::new(Some(thread)) })
    }

    fn disk(&self) -> Result<Arc<dyn LogDisk>, EngineError> {
        lock(&self.disk).clone().ok_or(EngineError::Closed)
    }
}

impl Shared {
    fn of(queue: Queue) -> Self {
        let fsyncs = Arc::new(Distribution::new(SHORT));
        Self { lock: Mutex::new(queue), fsyncs, work: Condvar::new(), room: Condvar::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.lock)
    }
}

/// A panic elsewhere does not make what the lock guards wrong: every change under it is complete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn full(&self) -> bool {
        self.jobs.len() >= QUEUE_JOBS_MAX || self.bytes >= QUEUE_BYTES_MAX
    }

    /// Takes what fits one batch.
    fn take(&mut self) -> Vec<Job> {
        let mut taken = Vec::with_capacity(self.jobs.len().min(64));
        let mut bytes = 0;
        while let Some(job) = self.jobs.pop_front_if(|job| bytes == 0 || bytes + job.bytes <= BATCH_BYTES_MAX) {
            bytes += job.bytes;
            taken.push(job);
        }
        self.bytes -= bytes;
        taken
    }
}

impl LogEngine for GroupLog {
    fn submit(&self, ops: Vec<Op>, done: Callback) -> Result<(), EngineError> {
        let mut queue = self.shared.queue();
        while queue.full() && queue.end.is_none() {
            queue = self.shared.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(end) = &queue.end {
            return Err(end.clone());
        }
        queue.shadow.check(&ops)?;
        queue.sequence += 1;
        let sequence = queue.sequence;
        queue.shadow.play(&ops, sequence);
        let commit_marks = ops.iter().filter(|op| matches!(op, Op::PutCommitted(_))).count();
        queue.committed_unsaved |= commit_marks > 0;
        if commit_marks == ops.len() {
            drop(queue);
            done(Ok(()));
            return Ok(());
        }
        let bytes = ops.iter().map(op_bytes).sum();
        let after = queue.shadow.state();
        queue.bytes += bytes;
        queue.jobs.push_back(Job { ops, bytes, sequence, after, done });
        drop(queue);
        self.shared.work.notify_one();
        Ok(())
    }

    fn read(&self, range: Range<u64>, byte_limit: usize) -> Result<Vec<Record>, EngineError> {
        let (wanted, cached_from, mut recent) = {
            let queue = self.shared.queue();
            if let Some(failed @ EngineError::Failed(_)) = &queue.end {
                return Err(failed.clone());
            }
            let (span, cached) = (queue.shadow.span(), queue.shadow.tail_span());
            let wanted = range.start.max(span.start)..range.end.min(span.end);
            if wanted.is_empty() {
                return Ok(Vec::new());
            }
            let from = cached.start.max(wanted.start);
            let recent = if from < wanted.end { queue.shadow.tail_range(from..wanted.end) } else { Vec::new() };
            (wanted.clone(), from.min(wanted.end), recent)
        };
        let mut records = match wanted.start < cached_from {
            true => disk::read(&*self.disk()?, wanted.start..cached_from, byte_limit)?,
            false => Vec::new(),
        };
        let whole = records.last().map_or(wanted.start, |record| record.point.index + 1) == cached_from;
        if whole {
            records.append(&mut recent);
        }
        limit_bytes(&mut records, byte_limit);
        self.check_continuous(&records, wanted)?;
        Ok(records)
    }

    fn read_recent(&self, range: Range<u64>) -> Option<Vec<Record>> {
        let queue = self.shared.queue();
        let (span, cached) = (queue.shadow.span(), queue.shadow.tail_span());
        let wanted = range.start.max(span.start)..range.end.min(span.end);
        if wanted.is_empty() {
            return Some(Vec::new());
        }
        (cached.start <= wanted.start).then(|| queue.shadow.tail_range(wanted))
    }

    fn state(&self) -> EngineState {
        self.shared.queue().shadow.state()
    }

    fn term_ends(&self) -> Vec<LogPoint> {
        self.shared.queue().shadow.term_ends()
    }

    fn stats(&self) -> EngineStats {
        let disk = lock(&self.disk).clone();
        let queue = self.shared.queue();
        let (live_entries, live_bytes) = queue.shadow.live();
        EngineStats {
            file_bytes: disk.as_ref().map_or(0, |disk| disk.file_bytes()),
            live_bytes,
            live_entries,
            batches: queue.batches,
            appended: queue.appended,
            barriers: disk.as_ref().map_or(0, |disk| disk.barriers()),
            latency: queue.latency.summary(),
        }
    }

    fn fsyncs(&self) -> Arc<Distribution> {
        self.shared.fsyncs.clone()
    }

    fn close(&self) {
        self.shared.queue().end.get_or_insert(EngineError::Closed);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // The thread reports its failures through `end`; a panic in it was printed by the hook.
            let _ = thread.join();
        }
        let failed = matches!(self.shared.queue().end, Some(EngineError::Failed(_)));
        if let Some(disk) = lock(&self.disk).take().filter(|_| failed) {
            // Closing an engine writes, and sled even waits for a write that will never come. Nothing may follow a failed
            // write; the process ends soon and takes the files with it.
            std::mem::forget(disk);
        }
    }
}

impl GroupLog {
    /// What was read must be the wanted range up to a limit, except for entries purged meanwhile.
    fn check_continuous(&self, records: &[Record], wanted: Range<u64>) -> Result<(), EngineError> {
        let live = self.shared.queue().shadow.span();
        let mut expected = records.first().map_or(wanted.start, |record| record.point.index);
        let purged_meanwhile = expected <= live.start.min(wanted.end);
        let holds = records.iter().all(|record| {
            expected += 1;
            record.point.index + 1 == expected
        });
        let lost_all = records.is_empty() && live.start < wanted.end && live.end > wanted.start;
        if !holds || lost_all || (records.first().map(|r| r.point.index) > Some(wanted.start) && !purged_meanwhile) {
            return Err(DiskError::Damaged(format!("hole while reading entries {wanted:?}")).into());
        }
        Ok(())
    }
}

impl Drop for GroupLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Append(records) => records.iter().map(|record| record.payload.len() + 64).sum(),
        _ => 64,
    }
}

/// Keeps the records up to the one that passes the limit.
pub(in crate::raft) fn limit_bytes(records: &mut Vec<Record>, byte_limit: usize) {
    let mut bytes = 0;
    let keep = records
        .iter()
        .take_while(|record| {
            let fits = bytes <= byte_limit;
            bytes += record.payload.len();
            fits
        })
        .count();
    records.truncate(keep);
}

/// The thread's side.
struct Writer {
    disk: Arc<dyn LogDisk>,
    shared: Arc<Shared>,
    witness: Witness,
    /// Values below the purge mark are still in the files.
    unswept: bool,
    /// Where the log on disk starts, while it was never purged.
    start: Option<LogPoint>,
}

/// What one round of the thread has to do.
struct Round {
    jobs: Vec<Job>,
    /// What the log holds once the round is durable.
    after: EngineState,
    save_committed: bool,
    closing: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let mut round = self.next_round();
            let written = self.write(&mut round);
            match written {
                Ok(()) => acknowledge(&self.shared, round.jobs),
                Err(error) => return fail(&self.shared, round.jobs, error.into()),
            }
            if round.closing {
                return;
            }
        }
    }

    /// Waits for work. The last round, when the log closes, saves a commit mark that no batch took along.
    fn next_round(&self) -> Round {
        let mut queue = self.shared.queue();
        while queue.jobs.is_empty() && queue.end.is_none() && !self.unswept {
            queue = self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let jobs = queue.take();
        let closing = queue.end.is_some() && queue.jobs.is_empty();
        // Without jobs nothing was waiting, so all that the shadow holds is on disk already.
        let mut after = jobs.last().map_or(queue.shadow.state(), |job| job.after);
        after.committed = queue.shadow.state().committed;
        let covered = after.committed.map(|committed| committed.index) <= after.last.map(|last| last.index);
        let save_committed = queue.committed_unsaved && covered && (!jobs.is_empty() || closing);
        queue.committed_unsaved &= !save_committed;
        drop(queue);
        self.shared.room.notify_all();
        Round { jobs, after, save_committed, closing }
    }

    fn write(&mut self, round: &mut Round) -> Result<(), DiskError> {
        let batch = self.batch(round);
        let durable = !round.jobs.is_empty() || round.save_committed;
        if !durable && batch.sweep.is_none() {
            return Ok(());
        }
        if let Some(from) = batch.truncate_from {
            self.witness.lower(from)?;
        }
        let started = flowyard_clock::monotonic();
        let swept = unpanicked(|| self.disk.write(&batch, durable))?;
        self.unswept = batch.sweep.is_some() && !swept;
        if batch.sweep.is_some() && swept {
            self.watch_space();
        }
        if durable {
            self.witness.note(&round.after)?;
            let took = flowyard_clock::elapsed(started);
            self.shared.fsyncs.observe(took);
            let mut queue = self.shared.queue();
            queue.batches += 1;
            queue.appended += batch.puts.len() as u64;
            queue.latency.record(took);
        }
        Ok(())
    }

    /// After a purge the files should be of the size of what is left; an engine that never gives space back is told of.
    fn watch_space(&self) {
        let live_bytes = self.shared.queue().shadow.live().1;
        let stats = EngineStats { file_bytes: self.disk.file_bytes(), live_bytes, ..EngineStats::default() };
        if stats.amplification() > AMPLIFICATION_ALARM {
            tracing::warn!(stats.file_bytes, live_bytes, "the log takes far more space than it needs");
        }
    }

    fn batch(&mut self, round: &mut Round) -> Batch {
        let mut batch = Batch::default();
        for job in &mut round.jobs {
            std::mem::take(&mut job.ops).into_iter().for_each(|op| batch.fold(op));
        }
        batch.committed = round.after.committed.filter(|_| round.save_committed);
        if self.unswept || batch.purged.is_some() {
            let values_max = if round.jobs.is_empty() { SWEEP_IDLE_VALUES } else { SWEEP_BUSY_VALUES };
            batch.sweep = round.after.purged.map(|purged| Sweep { upto: purged.index, values_max });
        }
        if batch.truncate_from <= self.start.map(|start| start.index) {
            self.start = self.start.filter(|_| batch.truncate_from.is_none());
        }
        if self.start.is_none() {
            self.start = batch.puts.first().map(|first| first.point);
            batch.start = self.start;
        }
        batch
    }
}

/// Engines have been seen to panic over a full disk; for us that is a failed write like any other.
pub(super) fn unpanicked<T>(work: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
        Err(DiskError::Panicked(what.unwrap_or_default()))
    })
}

fn acknowledge(shared: &Shared, jobs: Vec<Job>) {
    if let Some(last) = jobs.last() {
        shared.queue().shadow.evict(last.sequence);
    }
    for job in jobs {
        (job.done)(Ok(()));
    }
}

/// Ends the log: nothing queued will be written, because what the disk holds now is unknown until it is opened again.
fn fail(shared: &Shared, jobs: Vec<Job>, error: EngineError) {
    let waiting = {
        let mut queue = shared.queue();
        queue.end = Some(error.clone());
        queue.bytes = 0;
        std::mem::take(&mut queue.jobs)
    };
    shared.room.notify_all();
    for job in jobs.into_iter().chain(waiting) {
        (job.done)(Err(error.clone()));
    }
}
