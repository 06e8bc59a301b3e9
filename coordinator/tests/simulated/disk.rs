//! A disk in simulated time: what is written can be read at once and is durable a little later; a power cut takes the rest.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flowyard_coordinator::raft::engine::{
    Callback, EngineError, EngineState, EngineStats, LogEngine, LogPoint, MemoryLog, Op, Record,
};
use tokio::sync::{mpsc, watch};

/// How long a barrier takes at most on a disk on which nothing is wrong, in milliseconds.
const USUAL_BARRIER_MS: u64 = 4;
/// How long a disk that lies keeps to itself what it said was durable, in milliseconds.
const LYING_MS: u64 = 500;
/// What may wait for the disk; far more than the replicas of a history ever have under way.
const WAITING: usize = 4_096;

type Written = (Vec<Op>, Callback);

/// What survives its machine.
#[derive(Debug)]
pub(crate) struct Platter {
    durable: Mutex<Vec<Op>>,
    barrier_ms: AtomicU64,
    /// Whether it says that something is durable long before it is, as a disk with a cache that it does not flush.
    lies: bool,
}

impl Platter {
    pub(crate) fn blank(lies: bool) -> Arc<Self> {
        Arc::new(Self { durable: Mutex::default(), barrier_ms: AtomicU64::new(USUAL_BARRIER_MS), lies })
    }

    /// From now on a barrier takes so long.
    pub(crate) fn slow(&self, barrier_ms: u64) {
        self.barrier_ms.store(barrier_ms, Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.slow(USUAL_BARRIER_MS);
    }
}

/// A log on a platter, for as long as its machine has power.
pub(crate) struct Disk {
    seen: MemoryLog,
    line: mpsc::Sender<Written>,
}

impl Disk {
    /// The log as it is on the platter; and what cuts its power, when it is dropped or told.
    pub(crate) fn mount(platter: &Arc<Platter>) -> (Arc<Self>, watch::Sender<bool>) {
        let seen = MemoryLog::default();
        for op in platter.durable.lock().unwrap().iter() {
            seen.submit(vec![op.clone()], Box::new(|_| {})).expect("what was taken once is taken again");
        }
        let ((line, waiting), power) = (mpsc::channel(WAITING), watch::Sender::new(true));
        tokio::spawn(write(platter.clone(), waiting, power.subscribe()));
        (Arc::new(Self { seen, line }), power)
    }
}

/// Makes durable what waits, as much as there is with one barrier, in its order.
async fn write(platter: Arc<Platter>, mut waiting: mpsc::Receiver<Written>, mut power: watch::Receiver<bool>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, WAITING).await > 0 {
        if platter.lies {
            let told = |(ops, done): Written| -> Written {
                done(Ok(()));
                (ops, Box::new(|_| {}))
            };
            batch = batch.into_iter().map(told).collect();
        }
        let unflushed_ms = if platter.lies { LYING_MS } else { 0 };
        let barrier_ms = platter.barrier_ms.load(Ordering::Relaxed) + unflushed_ms;
        let barrier = tokio::time::sleep(Duration::from_millis(barrier_ms));
        tokio::select! {
            biased;
            _ = power.wait_for(|on| !on) => break,
            () = barrier => {}
        }
        for (ops, done) in batch.drain(..) {
            platter.durable.lock().unwrap().extend(ops);
            done(Ok(()));
        }
    }
    waiting.close();
    while let Ok(lost) = waiting.try_recv() {
        batch.push(lost);
    }
    batch.into_iter().for_each(|(_, done)| done(Err(EngineError::Closed)));
}

impl LogEngine for Disk {
    fn submit(&self, ops: Vec<Op>, done: Callback) -> Result<(), EngineError> {
        let room = self.line.try_reserve().map_err(|_| EngineError::Closed)?;
        self.seen.submit(ops.clone(), Box::new(|_| {}))?;
        room.send((ops, done));
        Ok(())
    }

    fn read(&self, range: Range<u64>, byte_limit: usize) -> Result<Vec<Record>, EngineError> {
        self.seen.read(range, byte_limit)
    }

    fn read_recent(&self, range: Range<u64>) -> Option<Vec<Record>> {
        self.seen.read_recent(range)
    }

    fn state(&self) -> EngineState {
        self.seen.state()
    }

    fn term_ends(&self) -> Vec<LogPoint> {
        self.seen.term_ends()
    }

    fn stats(&self) -> EngineStats {
        self.seen.stats()
    }

    fn close(&self) {}
}
