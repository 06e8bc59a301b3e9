//! Sending blobs: only what the cluster lacks, in one stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use flowyard_model::Digest;
use flowyard_proto::{api, blob};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, ClientError};

/// Digests asked for in one call.
const DIGESTS_PER_CALL: usize = 10_000;
/// Bytes of one message; small against the transport's limit of 4 MiB.
const CHUNK_BYTES: usize = 512 * 1024;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In a file.
    File(PathBuf),
    /// Here.
    Bytes(Bytes),
}

/// What was sent, and what did not have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Blobs that were sent.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were there already.
    pub present: u64,
}

impl Client {
    /// Makes sure the cluster has these blobs.
    ///
    /// # Errors
    /// [`ClientError::Changed`] when a file is not any more what its digest says, and what any call can fail with.
    pub async fn upload(&mut self, blobs: BTreeMap<Digest, Source>) -> Result<Sent, ClientError> {
        let missing = self.missing(blobs.keys().copied()).await?;
        let present = (blobs.len() - missing.len()) as u64;
        let wanted: Vec<_> =
            missing.into_iter().filter_map(|digest| Some((digest, blobs.get(&digest)?.clone()))).collect();
        if wanted.is_empty() {
            return Ok(Sent { blobs: 0, bytes: 0, present });
        }
        let (sender, receiver) = mpsc::channel(8);
        let reader = tokio::task::spawn_blocking(move || send_all(&wanted, &sender));
        let answer = self.blobs.put(ReceiverStream::new(receiver)).await;
        // A local cause explains more than what the server says about the broken stream.
        reader.await.map_err(|panic| ClientError::Fault(panic.to_string()))??;
        let answer = answer.map_err(|status| self.sorted(status))?.into_inner();
        Ok(Sent { blobs: answer.blobs, bytes: answer.bytes, present })
    }

    /// Which of these the cluster lacks.
    async fn missing(&mut self, digests: impl Iterator<Item = Digest>) -> Result<Vec<Digest>, ClientError> {
        let all: Vec<api::Digest> = digests.map(|digest| digest.into()).collect();
        let mut missing = Vec::new();
        for part in all.chunks(DIGESTS_PER_CALL) {
            let answer = self.blobs.missing(blob::MissingRequest { digests: part.to_vec(), stored_by: None }).await;
            for digest in answer.map_err(|status| self.sorted(status))?.into_inner().digests {
                missing.push(Digest::try_from(digest).map_err(|error| ClientError::Fault(error.to_string()))?);
            }
        }
        Ok(missing)
    }
}

type Sender = mpsc::Sender<blob::PutRequest>;

fn send_all(wanted: &[(Digest, Source)], sender: &Sender) -> Result<(), ClientError> {
    for (digest, source) in wanted {
        let open = match source {
            Source::Bytes(bytes) => send(*digest, &bytes[..], sender),
            Source::File(path) => {
                let local = |source| ClientError::Local { path: path.display().to_string(), source };
                let file = File::open(path).map_err(local)?;
                send(*digest, file, sender)
            }
        };
        let name = || match source {
            Source::File(path) => path.display().to_string(),
            Source::Bytes(_) => digest.to_string(),
        };
        match open {
            Ok(true) => {}
            // The server hung up; its answer says why.
            Ok(false) => return Ok(()),
            Err(SendError::Changed) => return Err(ClientError::Changed { path: name() }),
            Err(SendError::Read(source)) => return Err(ClientError::Local { path: name(), source }),
        }
    }
    Ok(())
}

enum SendError {
    Changed,
    Read(std::io::Error),
}

/// Sends one blob; `false` when nobody listens any more.
fn send(digest: Digest, mut bytes: impl Read, sender: &Sender) -> Result<bool, SendError> {
    let mut hasher = flowyard_cas::BlobHasher::new();
    let mut head = Some(digest.into());
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES.min(digest.length as usize + 1));
        bytes.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk).map_err(SendError::Read)?;
        if chunk.is_empty() && head.is_none() {
            break;
        }
        hasher.update(&chunk);
        if hasher.length() > digest.length {
            return Err(SendError::Changed);
        }
        if sender.blocking_send(blob::PutRequest { digest: head.take(), bytes: chunk.into() }).is_err() {
            return Ok(false);
        }
    }
    if hasher.digest() == digest { Ok(true) } else { Err(SendError::Changed) }
}
