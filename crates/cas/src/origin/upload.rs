//! Writing one blob to the origin, piece by piece.

use std::path::Path;

use bytes::Bytes;
use flowyard_model::Digest;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::io::AsyncReadExt;

use super::{Origin, key_of};
use crate::StoreError;
use crate::hashing::{BlobHasher, READ_BYTES};

/// Blobs up to this size are gathered and written in one request.
const WHOLE_BYTES: u64 = 8 * 1024 * 1024;
/// The most parts an upload is cut into (object stores take 10,000).
const MAX_PARTS: u64 = 9_000;
/// How many parts are under way at once.
const PARTS_AT_ONCE: usize = 4;

/// A blob on its way to the origin. It gets its name in [`BlobUpload::finish`], after its bytes were found right; dropped
/// before that, nothing is stored.
#[derive(Debug)]
pub struct BlobUpload {
    origin: Origin,
    digest: Digest,
    source: String,
    hasher: BlobHasher,
    gathered: Vec<Bytes>,
    parts: Option<WriteMultipart>,
}

impl Origin {
    /// Starts to write the blob `digest`, whose bytes come from `source` (said in errors).
    pub fn upload(&self, digest: Digest, source: impl Into<String>) -> BlobUpload {
        let hasher = BlobHasher::new();
        BlobUpload { origin: self.clone(), digest, source: source.into(), hasher, gathered: Vec::new(), parts: None }
    }

    /// Stores the file at `path` under `digest`; refused when it holds something else.
    pub async fn put_file(&self, digest: Digest, path: &Path) -> Result<(), StoreError> {
        let io = |source| StoreError::io("read", path, 0, source);
        let mut file = tokio::fs::File::open(path).await.map_err(io)?;
        file.set_max_buf_size(READ_BYTES);
        let mut upload = self.upload(digest, path.display().to_string());
        loop {
            let mut buffer = Vec::with_capacity(READ_BYTES.min(digest.length as usize + 1));
            if file.read_buf(&mut buffer).await.map_err(io)? == 0 {
                return upload.finish().await;
            }
            upload.write(buffer.into()).await?;
        }
    }
}

impl BlobUpload {
    /// Takes the next bytes. It waits when the origin is slower than the bytes come.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&bytes);
        if self.hasher.length() > self.digest.length {
            return Err(self.mismatch());
        }
        if self.digest.length <= WHOLE_BYTES {
            self.gathered.push(bytes);
            return Ok(());
        }
        let (origin, digest) = (self.origin.clone(), self.digest);
        let error = |source| origin.error("write", &key_of(&digest), digest.length, source);
        if self.parts.is_none() {
            let upload = origin.objects.put_multipart(&key_of(&digest)).await.map_err(error)?;
            let part_bytes = WHOLE_BYTES.max(digest.length.div_ceil(MAX_PARTS)) as usize;
            self.parts = Some(WriteMultipart::new_with_chunk_size(upload, part_bytes));
        }
        let parts = self.parts.as_mut().expect("the upload in parts was just begun");
        parts.wait_for_capacity(PARTS_AT_ONCE).await.map_err(error)?;
        parts.put(bytes);
        Ok(())
    }

    /// Gives the blob its name, if what was written is the blob.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        if self.hasher.digest() != self.digest {
            let mismatch = self.mismatch();
            self.abort().await;
            return Err(mismatch);
        }
        self.origin.settle_fan_out(&self.digest).await?;
        let key = key_of(&self.digest);
        let done = match self.parts.take() {
            Some(parts) => parts.finish().await,
            None => self.origin.objects.put(&key, PutPayload::from_iter(std::mem::take(&mut self.gathered))).await,
        };
        done.map_err(|source| self.origin.error("write", &key, self.digest.length, source))?;
        Ok(())
    }

    /// Gives up, and has the origin forget the parts it got.
    pub async fn abort(self) {
        if let Some(parts) = self.parts
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(digest = %self.digest, %error, "parts of a blob that was given up may be left in the origin");
        }
    }

    fn mismatch(&self) -> StoreError {
        StoreError::Mismatch { expected: self.digest, found: self.hasher.digest(), place: self.source.clone() }
    }
}
