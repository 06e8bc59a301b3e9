//! Bytes by digest, in and out of the origin.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use flowyard_cas::{BlobUpload, StoreError};
use flowyard_model::{Digest, JobId, plausible_blob};
use flowyard_proto::blob::blobs_server::Blobs;
use flowyard_proto::blob::{GetRequest, GetResponse, MissingRequest, MissingResponse, PutRequest, PutResponse};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::access::{Action, Caller, Named, allow};
use crate::caller;
use crate::coordinator::Shared;
use crate::fleet::{MirrorError, tell_stored};
use crate::standing::{Answers, Standing, while_standing};

/// Most digests asked for in one call.
const DIGESTS: usize = 10_000;

/// The service.
#[derive(Clone)]
pub(crate) struct BlobEndpoint {
    shared: Shared,
}

impl BlobEndpoint {
    /// A service of this coordinator.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Stores what comes for as long as its sender may send it; what of it is here afterwards.
    async fn store(&self, standing: &Standing, mut said: Streaming<PutRequest>) -> Result<Vec<Digest>, Status> {
        let (mut stored, mut upload) = (Vec::new(), None);
        while let Some(part) = said.message().await? {
            if part.digest.is_some() {
                standing.check()?;
                finish(upload.take(), &mut stored).await?;
                let digest = decode(part.digest)?;
                upload = Some((self.shared.durable.upload(digest, "the client"), digest));
            }
            let Some((upload, _)) = &mut upload else {
                return Err(Status::invalid_argument("bytes came before a digest"));
            };
            self.shared.proposer.counts().blob_bytes_in.add(part.bytes.len() as u64);
            upload.write(part.bytes).await.map_err(failed)?;
        }
        standing.check()?;
        finish(upload, &mut stored).await?;
        Ok(stored)
    }
}

async fn finish(upload: Option<(BlobUpload, Digest)>, stored: &mut Vec<Digest>) -> Result<(), Status> {
    if let Some((upload, digest)) = upload {
        upload.finish().await.map_err(failed)?;
        stored.push(digest);
    }
    Ok(())
}

fn decode(digest: Option<flowyard_proto::api::Digest>) -> Result<Digest, Status> {
    let digest = digest.ok_or_else(|| Status::invalid_argument("digest: missing"))?;
    let digest = Digest::try_from(digest)?;
    plausible_blob("digest", digest).map_err(|rejection| flowyard_proto::status::rejected(&rejection))?;
    Ok(digest)
}

pub(super) fn failed(error: StoreError) -> Status {
    let message = message(&error);
    match () {
        () if error.is_missing() => Status::not_found(message),
        () if error.is_disk_full() => Status::resource_exhausted(message),
        () if matches!(error.cause(), StoreError::Mismatch { .. } | StoreError::Manifest { .. }) => {
            Status::invalid_argument(message)
        }
        () => Status::unavailable(message),
    }
}

fn unconfirmed(error: MirrorError) -> Status {
    match error {
        MirrorError::Own(error) => failed(error),
        MirrorError::Minority { .. } => Status::unavailable(error.to_string()),
    }
}

/// The error with its causes.
fn message(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", message(source)),
        None => error.to_string(),
    }
}

/// Those of the blobs that the caller has to upload: what is not stored, and what they have no right to know of.
pub(super) async fn missing(shared: &Shared, caller: &Caller, digests: &[Digest]) -> Result<Vec<Digest>, Status> {
    let missing = shared.durable.missing(digests).await.map_err(unconfirmed)?;
    let mut missing: BTreeSet<Digest> = missing.into_iter().collect();
    let present: Vec<Digest> = digests.iter().filter(|digest| !missing.contains(digest)).copied().collect();
    let view = shared.feed.view();
    missing.extend(shared.readable.not_usable(&view, &shared.durable, caller, &present).await.map_err(failed)?);
    Ok(missing.into_iter().collect())
}

/// That the caller may read the blob: because of the job they name, or of what their node runs.
async fn check_read(shared: &Shared, caller: &Caller, digest: Digest, job: Option<u64>) -> Result<(), Status> {
    let (view, durable) = (shared.feed.view(), &shared.durable);
    let allowed = |named_by: &[Named<'_>]| Ok(allow(caller, Action::GetBlob { named_by })?);
    match (caller, job) {
        (Caller::Agent { name }, _)
            if shared.readable.by_node(&view, durable, name, digest).await.map_err(failed)? =>
        {
            allowed(&[Named::Allocation { node: name }])
        }
        (_, Some(id)) if shared.readable.by_job(&view, durable, JobId(id), digest).await.map_err(failed)? => {
            let (_, job) = super::find_job(&view, id)?;
            allowed(&[Named::Job { queue: &job.spec.queue }])
        }
        _ => allowed(&[]),
    }
}

/// Who copies blobs between coordinators; what they ask is answered from what is here, and goes no further.
fn copies(caller: &Caller) -> Result<bool, Status> {
    let Caller::Coordinator { replica } = caller else { return Ok(false) };
    allow(caller, Action::Mirror { replica: *replica })?;
    Ok(true)
}

/// What a part of a blob is read as.
fn answers(
    shared: &Shared,
    pieces: impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
) -> Answers<GetResponse> {
    let counts = Arc::clone(shared.proposer.counts());
    let counted = pieces.inspect(move |piece| {
        counts.blob_bytes_out.add(piece.as_ref().map_or(0, |bytes| bytes.len() as u64));
    });
    Box::pin(counted.map(|piece| piece.map(|bytes| GetResponse { bytes }).map_err(failed)))
}

#[tonic::async_trait]
impl Blobs for BlobEndpoint {
    type GetStream = Answers<GetResponse>;

    async fn missing(&self, request: Request<MissingRequest>) -> Result<Response<MissingResponse>, Status> {
        let caller = caller::of(&request)?;
        let copies = copies(&caller)?;
        if !copies {
            allow(&caller, Action::MissingBlobs)?;
        }
        let MissingRequest { digests, stored_by } = request.into_inner();
        if digests.len() > DIGESTS {
            return Err(Status::invalid_argument(format!("at most {DIGESTS} digests in one call")));
        }
        let digests = digests.into_iter().map(|digest| decode(Some(digest))).collect::<Result<Vec<_>, _>>()?;
        let missing = if copies {
            if let Some(by) = stored_by {
                self.shared.readable.uploaded(&digests, &by).await;
            }
            self.shared.durable.here().missing(&digests).await.map_err(failed)?
        } else {
            missing(&self.shared, &caller, &digests).await?
        };
        Ok(Response::new(MissingResponse { digests: missing.into_iter().map(Into::into).collect() }))
    }

    async fn put(&self, request: Request<Streaming<PutRequest>>) -> Result<Response<PutResponse>, Status> {
        let standing = caller::standing(&request)?;
        let caller = &standing.caller;
        let copies = copies(caller)?;
        if !copies {
            allow(caller, Action::PutBlob)?;
        }
        let stored = self.store(&standing, request.into_inner()).await?;
        if !copies {
            let by = caller.principal();
            self.shared.durable.confirm(&stored, Some(&by)).await.map_err(unconfirmed)?;
            standing.about(&format!("{} blobs", stored.len()));
            self.shared.readable.uploaded(&stored, &by).await;
            if !self.shared.durable.is_mirrored() {
                tell_stored(&self.shared, &by, &stored).await;
            }
        }
        let bytes = stored.iter().map(|digest| digest.length).sum();
        Ok(Response::new(PutResponse { blobs: stored.len() as u64, bytes }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let standing = caller::standing(&request)?;
        let caller = standing.caller.clone();
        let request = request.into_inner();
        let (digest, durable) = (decode(request.digest)?, &self.shared.durable);
        if copies(&caller)? {
            let pieces = durable.here().get_stream(&digest).await.map_err(failed)?;
            return Ok(Response::new(while_standing(standing, answers(&self.shared, pieces))));
        }
        check_read(&self.shared, &caller, digest, request.job).await?;
        let pieces = if request.offset == 0 && request.length.is_none() {
            durable.get_stream(&digest).await
        } else {
            let end =
                request.length.map_or(digest.length, |length| request.offset.saturating_add(length).min(digest.length));
            durable.get_range(&digest, request.offset.min(end)..end).await
        };
        Ok(Response::new(while_standing(standing, answers(&self.shared, pieces.map_err(failed)?))))
    }
}
