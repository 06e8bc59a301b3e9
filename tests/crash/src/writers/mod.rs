//! The processes that write: each checks what earlier ones were promised, then goes on until it is ended.
//!
//! What they say, one line each: `ready` after the check, `ack TEXT` for each promise, `wrong TEXT` when a promise was
//! broken and nobody said so, `refused TEXT` when the product says that what it finds is damaged, `failed TEXT` when it
//! ends over a failing disk.

mod blobs;
mod log;
mod replica;

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use flowyard_coordinator::raft::engine::EngineKind;

/// A writer that takes longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// The log of a replica: votes, entries, truncations, purges.
    Log(EngineKind),
    /// A whole replica: record, log, vote, witness, snapshots.
    Replica(EngineKind),
    /// An origin in a folder.
    Origin,
    /// The blobs of a node.
    Local,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Log(EngineKind::Sled),
        Self::Log(EngineKind::Redb),
        Self::Log(EngineKind::Journal),
        Self::Replica(EngineKind::Sled),
        Self::Replica(EngineKind::Redb),
        Self::Replica(EngineKind::Journal),
        Self::Origin,
        Self::Local,
    ];

    /// Its name on the command line.
    pub fn name(self) -> String {
        match self {
            Self::Log(engine) => format!("log-{}", engine.name()),
            Self::Replica(engine) => format!("replica-{}", engine.name()),
            Self::Origin => "origin".into(),
            Self::Local => "local".into(),
        }
    }

    /// The workload of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }
}

/// What one writer is told.
#[derive(Debug)]
pub struct Order {
    /// What to write.
    pub workload: Workload,
    /// Where.
    pub folder: PathBuf,
    /// What decides it.
    pub seed: u64,
    /// Every promise made so far.
    pub acks: Vec<String>,
}

/// Why a writer ended.
#[derive(Debug)]
pub enum Ended {
    /// A promise was broken, and the product did not notice.
    Wrong(String),
    /// The product noticed that what it found is damaged.
    Refused(String),
    /// The disk failed under it.
    Failed(String),
}

impl Ended {
    /// As the last line of a writer.
    pub fn line(&self) -> String {
        let (word, text) = match self {
            Self::Wrong(text) => ("wrong", text),
            Self::Refused(text) => ("refused", text),
            Self::Failed(text) => ("failed", text),
        };
        format!("{word} {}", text.replace('\n', " "))
    }

    /// The error with everything that led to it.
    fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(chain(error))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Says a line. One write each: the end may come at any moment.
#[allow(clippy::print_stdout, reason = "what a writer says goes to whoever started it")]
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listened is gone; this process is about to be ended too.
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

/// Does as told until it is ended.
pub fn write(order: &Order) -> Ended {
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        say("wrong it is stuck");
        std::process::abort();
    });
    let ended: Result<Infallible, Ended> = match order.workload {
        Workload::Log(engine) => log::write(order, engine),
        Workload::Replica(engine) => asynchronous(replica::write(order, engine)),
        Workload::Origin => asynchronous(blobs::write_origin(order)),
        Workload::Local => blobs::write_local(order),
    };
    match ended {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

fn asynchronous<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be made").block_on(work)
}
