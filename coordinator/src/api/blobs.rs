//! Bytes by digest, in and out of the origin.

use std::collections::BTreeSet;

use flowyard_cas::{BlobUpload, StoreError};
use flowyard_model::{Digest, JobId};
use flowyard_proto::blob::blobs_server::Blobs;
use flowyard_proto::blob::{GetRequest, GetResponse, MissingRequest, MissingResponse, PutRequest, PutResponse};
use futures::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::Answers;
use crate::access::{Action, Caller, Named, allow};
use crate::caller::{self, allowed};
use crate::coordinator::Shared;

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

    async fn finish(
        &self,
        upload: Option<(BlobUpload, Digest)>,
        stored: &mut PutResponse,
        by: &str,
    ) -> Result<(), Status> {
        if let Some((upload, digest)) = upload {
            upload.finish().await.map_err(failed)?;
            self.shared.readable.uploaded(digest, by.to_owned());
            stored.blobs += 1;
            stored.bytes += digest.length;
        }
        Ok(())
    }
}

fn decode(digest: Option<flowyard_proto::api::Digest>) -> Result<Digest, Status> {
    let digest = digest.ok_or_else(|| Status::invalid_argument("digest: missing"))?;
    Ok(Digest::try_from(digest)?)
}

fn failed(error: StoreError) -> Status {
    let message = message(&error);
    match () {
        () if error.is_missing() => Status::not_found(message),
        () if error.is_disk_full() => Status::resource_exhausted(message),
        () if matches!(error.cause(), StoreError::Mismatch { .. }) => Status::invalid_argument(message),
        () => Status::unavailable(message),
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
    let mut missing: BTreeSet<Digest> = shared.origin.missing(digests).await.map_err(failed)?.into_iter().collect();
    let present: Vec<Digest> = digests.iter().filter(|digest| !missing.contains(digest)).copied().collect();
    let view = shared.feed.view();
    missing.extend(shared.readable.not_usable(&view, &shared.origin, caller, &present).await.map_err(failed)?);
    Ok(missing.into_iter().collect())
}

/// That the caller may read the blob: because of the job they name, or of what their node runs.
async fn check_read(shared: &Shared, caller: &Caller, digest: Digest, job: Option<u64>) -> Result<(), Status> {
    let (view, origin) = (shared.feed.view(), &shared.origin);
    let allowed = |named_by: &[Named<'_>]| Ok(allow(caller, Action::GetBlob { named_by })?);
    match (caller, job) {
        (Caller::Agent { name }, _)
            if shared.readable.by_node(&view, origin, name, digest).await.map_err(failed)? =>
        {
            allowed(&[Named::Allocation { node: name }])
        }
        (_, Some(id)) if shared.readable.by_job(&view, origin, JobId(id), digest).await.map_err(failed)? => {
            let (_, job) = super::find_job(&view, id)?;
            allowed(&[Named::Job { queue: &job.spec.queue }])
        }
        _ => allowed(&[]),
    }
}

#[tonic::async_trait]
impl Blobs for BlobEndpoint {
    type GetStream = Answers<GetResponse>;

    async fn missing(&self, request: Request<MissingRequest>) -> Result<Response<MissingResponse>, Status> {
        let caller = allowed(&request, Action::MissingBlobs)?;
        let digests = request.into_inner().digests;
        if digests.len() > DIGESTS {
            return Err(Status::invalid_argument(format!("at most {DIGESTS} digests in one call")));
        }
        let digests = digests.into_iter().map(|digest| decode(Some(digest))).collect::<Result<Vec<_>, _>>()?;
        let missing = missing(&self.shared, &caller, &digests).await?;
        Ok(Response::new(MissingResponse { digests: missing.into_iter().map(Into::into).collect() }))
    }

    async fn put(&self, request: Request<Streaming<PutRequest>>) -> Result<Response<PutResponse>, Status> {
        let by = allowed(&request, Action::PutBlob)?.principal();
        let mut said = request.into_inner();
        let mut stored = PutResponse { blobs: 0, bytes: 0 };
        let mut upload = None;
        while let Some(part) = said.message().await? {
            if part.digest.is_some() {
                self.finish(upload.take(), &mut stored, &by).await?;
                let digest = decode(part.digest)?;
                upload = Some((self.shared.origin.upload(digest, "the client"), digest));
            }
            let Some((upload, _)) = &mut upload else {
                return Err(Status::invalid_argument("bytes came before a digest"));
            };
            upload.write(part.bytes).await.map_err(failed)?;
        }
        self.finish(upload, &mut stored, &by).await?;
        Ok(Response::new(stored))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let digest = decode(request.digest)?;
        check_read(&self.shared, &caller, digest, request.job).await?;
        if request.offset == 0 && request.length.is_none() {
            let stream = self.shared.origin.get_stream(&digest).await.map_err(failed)?;
            let stream = stream.map(|part| part.map(|bytes| GetResponse { bytes }).map_err(failed));
            return Ok(Response::new(Box::pin(stream)));
        }
        let end =
            request.length.map_or(digest.length, |length| request.offset.saturating_add(length).min(digest.length));
        let stream = self.shared.origin.get_range(&digest, request.offset.min(end)..end).await.map_err(failed)?;
        Ok(Response::new(Box::pin(stream.map(|part| part.map(|bytes| GetResponse { bytes }).map_err(failed)))))
    }
}
