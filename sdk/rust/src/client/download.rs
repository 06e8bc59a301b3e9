//! Bringing blobs: verified before they are used.

use std::io::Write;

use flowyard_model::{Digest, JobId};
use flowyard_proto::blob;

use super::{Client, ClientError};

impl Client {
    /// Writes a blob that this job names to `sink`, checking it against its digest. On an error `sink` may hold a part of it.
    ///
    /// # Errors
    /// [`ClientError::Damaged`] when the bytes are not what the digest says.
    pub async fn download(&mut self, job: JobId, digest: Digest, sink: &mut impl Write) -> Result<(), ClientError> {
        let request = blob::GetRequest { digest: Some(digest.into()), offset: 0, length: None, job: Some(job.0) };
        let mut stream = self.blobs.get(request).await.map_err(|status| self.sorted(status))?.into_inner();
        let mut hasher = flowyard_cas::BlobHasher::new();
        while let Some(part) = stream.message().await.map_err(|status| self.sorted(status))? {
            hasher.update(&part.bytes);
            let local = |source| ClientError::Local { path: "the destination".to_owned(), source };
            sink.write_all(&part.bytes).map_err(local)?;
        }
        if hasher.digest() == digest { Ok(()) } else { Err(ClientError::Damaged { digest }) }
    }

    /// A blob small enough to be held in memory, such as a manifest.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn download_bytes(&mut self, job: JobId, digest: Digest) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::with_capacity((digest.length as usize).min(64 * 1024 * 1024));
        self.download(job, digest, &mut bytes).await?;
        Ok(bytes)
    }
}
