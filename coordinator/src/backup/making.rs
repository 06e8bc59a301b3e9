//! Making a backup while the cluster runs, as a stream of the file's bytes: none of it is held for longer than it takes to send it.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use flowyard_cas::{StoreError, digest_bytes};
use flowyard_model::Digest;
use flowyard_proto::cluster::{BackupRequest, BackupResponse};
use flowyard_proto::peer::BackupHead;
use flowyard_state::View;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedRwLockReadGuard, mpsc};
use tonic::Status;

use super::{BackupError, BackupWriter, KEY_FILES, Kept, PIECE_BYTES, kept_blobs};
use crate::archive::ArchiveError;
use crate::coordinator::Shared;
use crate::durable::Durable;
use crate::raft::Role;
use crate::raft::engine::EngineError;
use crate::sealing::{SEGMENT_BYTES, encode};

/// Messages on their way.
const ON_THE_WAY: usize = 8;
/// How long the next of them may wait for whoever asked: no blob is removed meanwhile, of any job.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a backup was not finished.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Write(#[from] BackupError),
    #[error("a blob could not be read: {0}")]
    Blob(#[from] StoreError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Log(#[from] EngineError),
    #[error("entry {0} of the log went away meanwhile; ask again")]
    Purged(u64),
    #[error("{path}: {source}", path = path.display())]
    Key { path: std::path::PathBuf, source: io::Error },
}

/// The bytes of a backup of what the cluster agrees on now. An error among them ends it: what came before is none.
pub(crate) async fn make(
    shared: &Shared,
    asked: BackupRequest,
) -> Result<mpsc::Receiver<Result<BackupResponse, Status>>, Status> {
    // Before the view, so that no blob it names is removed.
    let held = shared.backups.clone().read_owned().await;
    let view = shared.fresh_view().await?;
    let (bytes, made) = mpsc::channel(ON_THE_WAY);
    let work = Making { shared: shared.clone(), asked, view, bytes: bytes.clone(), _held: held };
    tokio::task::spawn_blocking(move || {
        if let Err(error) = work.run() {
            let told = Status::unavailable(format!("the backup could not be made: {error}"));
            // Whoever hung up, or takes nothing, needs no reason.
            let _ = Handle::current().block_on(bytes.send_timeout(Err(told), PATIENCE));
        }
    });
    Ok(made)
}

struct Making {
    shared: Shared,
    asked: BackupRequest,
    view: View,
    bytes: mpsc::Sender<Result<BackupResponse, Status>>,
    _held: OwnedRwLockReadGuard<()>,
}

impl Making {
    fn run(self) -> Result<(), MakeError> {
        let runtime = Handle::current();
        let out = BufWriter::with_capacity(PIECE_BYTES, Sending(self.bytes.clone(), runtime.clone()));
        let mut backup = BackupWriter::begin(out, self.head())?;
        backup.state(&self.view)?;
        if self.asked.with_log {
            self.log(&runtime, &mut backup)?;
        }
        // Now, since they may be exchanged while the blobs are copied, and must open what this state names.
        let keys = if self.asked.with_keys { keys(&self.shared.config.folder)? } else { Vec::new() };
        let mut lost = 0;
        if !self.asked.without_blobs {
            let kept: Kept = runtime.block_on(kept_blobs(&self.shared.durable, &self.view))?;
            lost = kept.lost;
            for digest in kept.blobs {
                copy(&runtime, &self.shared.durable, digest, &mut backup)?;
            }
        }
        for (file, content) in keys {
            backup.key(file, content)?;
        }
        backup.finish(lost)?;
        Ok(())
    }

    /// What is kept of the log: sealed segments, unless they come with the blobs, and what is not sealed yet.
    fn log<W: Write>(&self, runtime: &Handle, backup: &mut BackupWriter<W>) -> Result<(), MakeError> {
        if self.asked.without_blobs {
            for segment in self.view.segments() {
                let bytes = runtime.block_on(self.shared.durable.get_bytes(&segment.blob))?;
                backup.log(segment.blob, bytes)?;
            }
        }
        let purged = self.shared.replica.purged_index().unwrap_or(0);
        let mut next = self.view.last_segment().map_or(0, |segment| segment.last).max(purged) + 1;
        let end = self.view.revision().0 + 1;
        while next < end {
            let records = runtime.block_on(self.shared.replica.read_log(next..end, SEGMENT_BYTES))?;
            let Some(last) = records.last().map(|last| last.point.index) else { return Err(MakeError::Purged(next)) };
            if records[0].point.index != next {
                return Err(MakeError::Purged(next));
            }
            let segment = Bytes::from(encode(&records).map_err(BackupError::Io)?);
            backup.log(digest_bytes(&segment), segment)?;
            next = last + 1;
        }
        Ok(())
    }

    fn head(&self) -> BackupHead {
        let term = match &*self.shared.replica.role().borrow() {
            Role::Leader { term, .. } | Role::Follower { term, .. } => *term,
            Role::Seeking | Role::Stopped { .. } => 0,
        };
        BackupHead {
            cluster: self.shared.cluster_id.clone(),
            name: self.shared.fleet.as_ref().map_or_else(String::new, |fleet| fleet.config().name.clone()),
            epoch: self.shared.epoch,
            term,
            revision: self.view.revision().0,
            cluster_version: self.view.version().0,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            made_at_ms: flowyard_clock::wall_ms(),
            blobs: !self.asked.without_blobs,
            keys: self.asked.with_keys,
            log: self.asked.with_log,
            ..BackupHead::default()
        }
    }
}

fn copy<W: Write>(
    runtime: &Handle,
    durable: &Durable,
    digest: Digest,
    backup: &mut BackupWriter<W>,
) -> Result<(), MakeError> {
    let mut pieces = runtime.block_on(durable.get_stream(&digest))?;
    backup.blob(digest)?;
    while let Some(piece) = runtime.block_on(pieces.next()) {
        backup.bytes(piece?)?;
    }
    Ok(())
}

/// A file of keys; a cluster of one machine has none.
fn keys(folder: &Path) -> Result<Vec<(&'static str, Bytes)>, MakeError> {
    let read = |file| Ok(key(folder, file)?.map(|content| (file, content)));
    KEY_FILES.into_iter().filter_map(|file| read(file).transpose()).collect()
}

fn key(folder: &Path, file: &str) -> Result<Option<Bytes>, MakeError> {
    let path = folder.join(file);
    match std::fs::read(&path) {
        Ok(content) => Ok(Some(content.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MakeError::Key { path, source }),
    }
}

/// Sends what is written to whoever asked, and waits a while where they are slow.
struct Sending(mpsc::Sender<Result<BackupResponse, Status>>, Handle);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        let sent = self.0.send_timeout(Ok(BackupResponse { bytes: Bytes::copy_from_slice(piece) }), PATIENCE);
        match self.1.block_on(sent) {
            Ok(()) => Ok(piece.len()),
            Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the backup any more")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flowyard_clock::elapsed;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Writes without end on a thread of its own, as a backup is made; how many bytes were taken, and why it ended.
    fn writing() -> (mpsc::Receiver<Result<BackupResponse, Status>>, tokio::sync::oneshot::Receiver<io::Error>) {
        let (bytes, made) = mpsc::channel(ON_THE_WAY);
        let (told, ended) = tokio::sync::oneshot::channel();
        let mut out = Sending(bytes, Handle::current());
        std::thread::spawn(move || {
            let refused = std::iter::repeat_with(|| out.write(b"more")).find_map(Result::err).expect("an end");
            drop(told.send(refused));
        });
        (made, ended)
    }

    #[tokio::test(start_paused = true)]
    async fn a_backup_that_nobody_reads_any_more_ends() {
        let (mut made, ended) = writing();
        let start = Instant::now();
        // Slow is not gone: something is taken each time before the patience is over.
        for _ in 0..3 {
            sleep(PATIENCE * 3 / 4).await;
            made.recv().await.expect("it goes on").unwrap();
        }
        assert!(start.elapsed() > PATIENCE * 2);
        // The receiver is there to the end: whoever asked holds the call open, and takes nothing.
        let refused = ended.await.unwrap();
        assert_eq!(refused.to_string(), "nobody takes the backup any more");
        drop(made);
    }

    #[tokio::test]
    async fn a_backup_whose_reader_hangs_up_ends_at_once() {
        let (made, ended) = writing();
        drop(made);
        let start = flowyard_clock::monotonic();
        assert_eq!(ended.await.unwrap().kind(), io::ErrorKind::BrokenPipe);
        assert!(elapsed(start) < PATIENCE);
    }
}
