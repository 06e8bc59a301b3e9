//! The cluster's blobs as an object store: what the agent's store reads and writes goes through the coordinators.
//!
//! Objects are blobs, named by their digests; nothing can be listed or removed from here.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use flowyard_model::Digest;
use flowyard_proto::blob::blobs_client::BlobsClient;
use flowyard_proto::blob::{GetRequest, MissingRequest, PutRequest};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

const STORE: &str = "cluster";
/// Bytes of one message.
const PIECE: usize = 256 * 1024;
/// Messages on their way.
const ON_THE_WAY: usize = 8;
/// Parts of one blob that may be given before they are sent; the caller gives no more.
const PARTS: usize = 64;

/// The store.
#[derive(Debug, Clone)]
pub(super) struct ClusterBlobs {
    blobs: BlobsClient<Channel>,
}

impl fmt::Display for ClusterBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("of the cluster")
    }
}

impl ClusterBlobs {
    /// The blobs behind this channel.
    pub(super) fn over(channel: Channel) -> Self {
        Self { blobs: BlobsClient::new(channel) }
    }

    async fn exists(&self, location: &Path, digest: Digest) -> Result<()> {
        let asked = MissingRequest { digests: vec![digest.into()], stored_by: None };
        let answer = self.blobs.clone().missing(asked).await.map_err(|status| failed(location, status))?;
        match answer.into_inner().digests.is_empty() {
            true => Ok(()),
            false => Err(Error::NotFound { path: location.to_string(), source: "no coordinator has it".into() }),
        }
    }
}

/// The blob that an object is.
fn digest_of(location: &Path) -> Result<Digest> {
    let parsed = location.filename().and_then(|name| name.parse().ok());
    parsed.ok_or_else(|| Error::NotSupported { source: format!("{location} is no blob").into() })
}

fn failed(location: &Path, status: Status) -> Error {
    let path = location.to_string();
    match status.code() {
        Code::NotFound => Error::NotFound { path, source: status.into() },
        // Its own word for a disk that is full is what the store looks for.
        Code::ResourceExhausted => {
            let full = std::io::Error::new(std::io::ErrorKind::StorageFull, status.message().to_owned());
            Error::Generic { store: STORE, source: full.into() }
        }
        Code::PermissionDenied => Error::PermissionDenied { path, source: status.into() },
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            away(status.message().to_owned())
        }
        _ => Error::Generic { store: STORE, source: Box::new(status) },
    }
}

/// No coordinator can take or give it now, which is what the store looks for to wait until one can.
fn away(message: String) -> Error {
    Error::Generic { store: STORE, source: std::io::Error::new(std::io::ErrorKind::NotConnected, message).into() }
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(Error::NotSupported { source: format!("blobs of the cluster cannot be {what} by an agent").into() })
}

fn meta(location: &Path, digest: Digest) -> ObjectMeta {
    // What the cluster says is there is safe, however old it is; that is its business.
    let last_modified = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(flowyard_clock::wall_ms());
    let location = location.clone();
    ObjectMeta { location, last_modified: last_modified.into(), size: digest.length, e_tag: None, version: None }
}

fn stored() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: Default::default() }
}

fn bounds(range: Option<&GetRange>, length: u64) -> Range<u64> {
    match range {
        None => 0..length,
        Some(GetRange::Bounded(range)) => range.start.min(length)..range.end.min(length),
        Some(GetRange::Offset(start)) => (*start).min(length)..length,
        Some(GetRange::Suffix(last)) => length.saturating_sub(*last)..length,
    }
}

#[async_trait]
impl ObjectStore for ClusterBlobs {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        let digest = digest_of(location)?;
        let pieces = payload.into_iter().flat_map(pieces_of).collect::<Vec<_>>();
        let begin = PutRequest { digest: Some(digest.into()), bytes: Bytes::new() };
        let rest = pieces.into_iter().map(|bytes| PutRequest { digest: None, bytes });
        let said = tokio_stream::iter(std::iter::once(begin).chain(rest));
        self.blobs.clone().put(said).await.map_err(|status| failed(location, status))?;
        Ok(stored())
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::begin(self.blobs.clone(), location.clone(), digest_of(location)?)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let digest = digest_of(location)?;
        let range = bounds(options.range.as_ref(), digest.length);
        let (meta, attributes, extensions) = (meta(location, digest), Attributes::new(), Default::default());
        if options.head {
            self.exists(location, digest).await?;
            let payload = GetResultPayload::Stream(futures::stream::empty().boxed());
            return Ok(GetResult { payload, meta, range, attributes, extensions });
        }
        let length = Some(range.end - range.start);
        let request = GetRequest { digest: Some(digest.into()), offset: range.start, length, job: None };
        let answer = self.blobs.clone().get(request).await.map_err(|status| failed(location, status))?;
        let location = location.clone();
        let pieces = answer.into_inner().map_ok(|piece| piece.bytes);
        let pieces = pieces.map_err(move |status| failed(&location, status)).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(pieces), meta, range, attributes, extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations.and_then(async |_| unsupported("removed")).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::once(async { unsupported("listed") }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unsupported("listed")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unsupported("copied")
    }
}

fn pieces_of(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(PIECE));
        (!piece.is_empty()).then_some(piece)
    })
}

/// A part that was given, and who waits until it is sent.
type Part = (PutPayload, oneshot::Sender<()>);

/// A large blob on its way, part after part.
#[derive(Debug)]
struct Upload {
    location: Path,
    parts: Option<mpsc::Sender<Part>>,
    sending: Option<JoinHandle<std::result::Result<(), Status>>>,
}

impl Upload {
    fn begin(mut blobs: BlobsClient<Channel>, location: Path, digest: Digest) -> Self {
        let (parts, mut given) = mpsc::channel::<Part>(PARTS);
        let (messages, outgoing) = mpsc::channel(ON_THE_WAY);
        let feeding = async move {
            let begin = PutRequest { digest: Some(digest.into()), bytes: Bytes::new() };
            if messages.send(begin).await.is_err() {
                return;
            }
            while let Some((payload, sent)) = given.recv().await {
                for bytes in payload.into_iter().flat_map(pieces_of) {
                    if messages.send(PutRequest { digest: None, bytes }).await.is_err() {
                        return;
                    }
                }
                // Whoever gave it may have stopped waiting.
                let _ = sent.send(());
            }
        };
        let sending = tokio::spawn(async move {
            let (answer, ()) = tokio::join!(blobs.put(ReceiverStream::new(outgoing)), feeding);
            answer.map(drop)
        });
        Self { location, parts: Some(parts), sending: Some(sending) }
    }
}

fn broken() -> Error {
    away("the coordinator hung up".to_owned())
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Parts are given in order and queued here at once; only the waiting for them is left to others.
        let (sent, waiting) = oneshot::channel();
        let queued = self.parts.as_ref().is_some_and(|parts| parts.try_send((data, sent)).is_ok());
        Box::pin(async move {
            match queued && waiting.await.is_ok() {
                true => Ok(()),
                false => Err(broken()),
            }
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        drop(self.parts.take());
        let Some(sending) = self.sending.take() else { return Err(broken()) };
        match sending.await {
            Ok(Ok(())) => Ok(stored()),
            Ok(Err(status)) => Err(failed(&self.location, status)),
            Err(panic) => Err(Error::Generic { store: STORE, source: panic.into() }),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        if let Some(sending) = self.sending.take() {
            sending.abort();
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}
