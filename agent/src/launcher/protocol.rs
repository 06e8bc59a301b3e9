//! What the agent and the launcher say to each other: JSON records, each behind its length, so that many fit one read.
//!
//! Both ends may be of different releases, as the launcher outlives the agent: fields and variants are only added.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Enforcement;
use crate::runtime::spec::{ExitRecord, LaunchSpec};

/// No record is longer.
pub const MAX_RECORD_BYTES: usize = 8 << 20;

/// What the agent asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run this attempt. Answered by `Started` and later `Ended`, or by `Ended` alone. An attempt that runs is not run again.
    Start(Box<LaunchSpec>),
    /// End the attempt: its stop signal, after the grace SIGKILL.
    Stop {
        /// The attempt's folder.
        folder: PathBuf,
        /// Another grace than the spec's.
        grace_ms: Option<u64>,
        /// How long before the stop signal the notice signal of the spec is sent, if it has one.
        #[serde(default)]
        notice_ms: Option<u64>,
    },
    /// Say what runs.
    List,
    /// End the launcher.
    Shutdown {
        /// Whether to kill what still runs; otherwise the request is refused while anything does.
        kill: bool,
    },
}

/// How something is asked to end: first its notice signal, if it has one and is given notice; then its stop signal; then the kill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopping {
    /// Time from the notice signal to the stop signal.
    pub notice_ms: Option<u64>,
    /// Time from the stop signal to the kill, if it is not that of its spec.
    pub grace_ms: Option<u64>,
}

impl Stopping {
    /// At once, with this grace in place of the spec's.
    pub fn within(grace_ms: Option<u64>) -> Self {
        Self { notice_ms: None, grace_ms }
    }
}

/// What the launcher tells the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The first record of a connection, and the answer to `List`. What is not in it and was started by this launcher has its
    /// exit record, unless that could not be written.
    Running {
        /// How limits are enforced.
        enforcement: Enforcement,
        /// Everything that runs.
        attempts: Vec<Running>,
        /// This launcher, among all there ever were. What was asked of it, is not in the list and has no exit record, it never
        /// heard of, or it could not write the record down and tells it when asked again.
        #[serde(default)]
        launcher: Option<String>,
    },
    /// The user's process runs. For a process attempt this is told when it is made; if its program then cannot be executed,
    /// `Ended` follows at once and its record says that nothing was started.
    Started {
        /// The attempt's folder.
        folder: PathBuf,
        /// Its process id on the host.
        pid: u32,
        /// Wall clock in milliseconds.
        at_ms: u64,
    },
    /// It ended, or never began; the same record is in its folder.
    Ended {
        /// The attempt's folder.
        folder: PathBuf,
        /// How it ended.
        record: ExitRecord,
    },
    /// `Shutdown` without `kill` while attempts run.
    ShutdownRefused {
        /// How many run.
        running: usize,
    },
}

/// One running attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The attempt's folder.
    pub folder: PathBuf,
    /// The process that stands for it on the host: the user's, or the shim of a container; 0 while there is none yet.
    pub pid: u32,
    /// When the user's process started, wall clock in milliseconds; `None` while its container is being made.
    pub started_at_ms: Option<u64>,
}

/// Why the other side's bytes make no sense.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A length beyond all reason.
    #[error("a record of {length} bytes is longer than {MAX_RECORD_BYTES}")]
    TooLong {
        /// The claimed length.
        length: usize,
    },
    /// Not a record we know.
    #[error("unreadable record")]
    Unreadable(#[from] serde_json::Error),
}

/// Appends `record` to `bytes` as it is sent.
pub fn encode(record: &impl Serialize, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    serde_json::to_writer(&mut *bytes, record).expect("records have string keys only and a Vec takes every byte");
    let length = (bytes.len() - start - 4) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Collects received bytes until they are whole records.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    taken: usize,
}

impl Incoming {
    /// Takes bytes as they were read.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole record, if it is here.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ProtocolError> {
        let rest = &self.bytes[self.taken..];
        let Some((head, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_RECORD_BYTES {
            return Err(ProtocolError::TooLong { length });
        }
        let Some(record) = rest.get(..length) else { return Ok(None) };
        self.taken += 4 + length;
        Ok(Some(serde_json::from_slice(record)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_any_division_into_reads() {
        let records = [Request::List, Request::Shutdown { kill: true }, Request::List];
        let mut bytes = Vec::new();
        records.iter().for_each(|record| encode(record, &mut bytes));
        for size in 1..bytes.len() {
            let (mut incoming, mut seen) = (Incoming::default(), Vec::new());
            for part in bytes.chunks(size) {
                incoming.extend(part);
                while let Some(record) = incoming.take::<Request>().expect("readable") {
                    seen.push(record);
                }
            }
            assert_eq!(seen, records, "reads of {size} bytes");
        }
    }

    #[test]
    fn an_absurd_length_is_an_error() {
        let mut incoming = Incoming::default();
        incoming.extend(&u32::MAX.to_le_bytes());
        assert!(matches!(incoming.take::<Request>(), Err(ProtocolError::TooLong { .. })));
    }
}
