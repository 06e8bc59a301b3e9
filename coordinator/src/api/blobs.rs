//! Bytes by digest, in and out of the origin.

use flowyard_cas::StoreError;
use flowyard_model::Digest;
use flowyard_proto::blob::blobs_server::Blobs;
use flowyard_proto::blob::{GetRequest, GetResponse, MissingRequest, MissingResponse, PutRequest, PutResponse};
use futures::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::Answers;
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

#[tonic::async_trait]
impl Blobs for BlobEndpoint {
    type GetStream = Answers<GetResponse>;

    async fn missing(&self, request: Request<MissingRequest>) -> Result<Response<MissingResponse>, Status> {
        let digests = request.into_inner().digests;
        if digests.len() > DIGESTS {
            return Err(Status::invalid_argument(format!("at most {DIGESTS} digests in one call")));
        }
        let digests = digests.into_iter().map(|digest| decode(Some(digest))).collect::<Result<Vec<_>, _>>()?;
        let missing = self.shared.origin.missing(&digests).await.map_err(failed)?;
        Ok(Response::new(MissingResponse { digests: missing.into_iter().map(Into::into).collect() }))
    }

    async fn put(&self, request: Request<Streaming<PutRequest>>) -> Result<Response<PutResponse>, Status> {
        let mut said = request.into_inner();
        let mut stored = PutResponse { blobs: 0, bytes: 0 };
        let mut upload = None;
        while let Some(part) = said.message().await? {
            if part.digest.is_some() {
                finish(upload.take(), &mut stored).await?;
                let digest = decode(part.digest)?;
                upload = Some((self.shared.origin.upload(digest, "the client"), digest));
            }
            let Some((upload, _)) = &mut upload else {
                return Err(Status::invalid_argument("bytes came before a digest"));
            };
            upload.write(part.bytes).await.map_err(failed)?;
        }
        finish(upload, &mut stored).await?;
        Ok(Response::new(stored))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let digest = decode(request.digest)?;
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

async fn finish(upload: Option<(flowyard_cas::BlobUpload, Digest)>, stored: &mut PutResponse) -> Result<(), Status> {
    if let Some((upload, digest)) = upload {
        upload.finish().await.map_err(failed)?;
        stored.blobs += 1;
        stored.bytes += digest.length;
    }
    Ok(())
}
