//! A snapshot on its way between replicas: cut into chunks that are checked one by one, written beside what is there.
//!
//! Invariant: what was received only in part leaves no trace; what was received whole is checked again as a whole before
//! it is adopted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flowyard_proto::peer;
use flowyard_proto::peer::snapshot_part::Part;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::snapshot::{SnapshotError, SnapshotFile, SnapshotFolder};
use super::types::{SnapshotMeta, Vote};
use super::wire;

/// Bytes of one chunk.
const CHUNK_BYTES: u64 = 512 * 1024;

/// The messages that carry `file`. They end early when it cannot be read, which the receiver notices by its length.
pub(super) fn parts(
    envelope: Option<peer::Envelope>,
    vote: &Vote,
    meta: &SnapshotMeta,
    file: SnapshotFile,
) -> impl Stream<Item = peer::SnapshotPart> + Send + 'static {
    let start = peer::SnapshotStart {
        envelope,
        vote: Some(wire::vote_to_wire(vote)),
        last: meta.last_log_id.as_ref().map(wire::point_to_wire),
        bytes: file.bytes(),
    };
    let chunks = futures::stream::unfold((file, 0), |(file, offset)| async move {
        let length = CHUNK_BYTES.min(file.bytes().saturating_sub(offset));
        if length == 0 {
            return None;
        }
        let reading = file.clone();
        let read = tokio::task::spawn_blocking(move || reading.read_chunk(offset, length as usize)).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(data) => {
                let blake3 = Bytes::copy_from_slice(blake3::hash(&data).as_bytes());
                Some((Part::Chunk(peer::SnapshotChunk { offset, data: data.into(), blake3 }), (file, offset + length)))
            }
            Err(error) => {
                tracing::error!(path = %file.path().display(), %error, "a snapshot cannot be read to be sent");
                None
            }
        }
    });
    let first = futures::stream::once(async move { Part::Start(start) });
    first.chain(chunks).map(|part| peer::SnapshotPart { part: Some(part) })
}

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// The sender stopped in the middle.
    #[error("the snapshot ended after {received} of {expected} bytes")]
    Short {
        /// Bytes that came.
        received: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// A chunk is not what was sent, or not the one that was next.
    #[error("chunk at {offset} of the snapshot is damaged or out of order")]
    Chunk {
        /// Where it claims to be.
        offset: u64,
    },
    /// The connection.
    #[error("the connection broke: {0}")]
    Connection(#[source] Box<tonic::Status>),
    /// The disk.
    #[error("the snapshot cannot be written")]
    Io(#[from] io::Error),
    /// The whole.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// A file that goes away unless it was adopted, which renames it.
struct Incoming {
    path: PathBuf,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Gone already when it was adopted; otherwise the next start removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A complete, checked snapshot in the folder, not yet the current one.
pub(super) struct Received {
    pub(super) meta: SnapshotMeta,
    pub(super) file: SnapshotFile,
    _incoming: Incoming,
}

static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Takes the chunks that follow a start that announced `bytes`.
pub(super) async fn receive(
    folder: &Arc<SnapshotFolder>,
    bytes: u64,
    mut chunks: tonic::Streaming<peer::SnapshotPart>,
) -> Result<Received, ReceiveError> {
    let number = RECEIVED.fetch_add(1, Ordering::Relaxed);
    let incoming = Incoming { path: folder.incoming_path(&format!("received-{number}")) };
    let mut out = tokio::fs::File::create(&incoming.path).await?;
    let mut received = 0;
    while let Some(part) = chunks.message().await.map_err(|status| ReceiveError::Connection(Box::new(status)))? {
        let Some(Part::Chunk(chunk)) = part.part else { return Err(ReceiveError::Chunk { offset: received }) };
        let whole = chunk.offset == received && blake3::hash(&chunk.data).as_bytes() == &chunk.blake3[..];
        let length = chunk.data.len() as u64;
        if !whole || length > bytes - received {
            return Err(ReceiveError::Chunk { offset: chunk.offset });
        }
        out.write_all(&chunk.data).await?;
        received += length;
    }
    if received != bytes {
        return Err(ReceiveError::Short { received, expected: bytes });
    }
    out.sync_all().await?;
    let path = incoming.path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let file = SnapshotFile::open(&path)?;
        Ok::<_, SnapshotError>((file.verified_meta()?, file))
    });
    let (meta, file) = opened.await.map_err(io::Error::other)??;
    Ok(Received { meta, file, _incoming: incoming })
}
