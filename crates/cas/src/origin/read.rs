//! Reading blobs from the origin.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use flowyard_model::Digest;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore};

use super::{Origin, key_of};
use crate::StoreError;
use crate::hashing::{BlobHasher, READ_BYTES};

impl Origin {
    /// All bytes of a blob that fits into memory, checked.
    pub async fn get_bytes(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let mut stream = self.get_stream(digest).await?;
        // Whoever wrote the digest may have made its length up; by now a blob of that length is known to be there.
        let mut bytes = BytesMut::with_capacity(digest.length.min(1 << 30) as usize);
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// The bytes of a blob as they come. The last item is an error if they were not the blob's: whoever reads must not use
    /// what came before until the stream has ended well.
    pub async fn get_stream(
        &self,
        digest: &Digest,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let pieces = self.pieces(digest, 0..digest.length).await?;
        let (origin, digest) = (self.clone(), *digest);
        let checked = futures::stream::try_unfold((pieces, BlobHasher::new()), move |(mut pieces, mut hasher)| {
            let origin = origin.clone();
            async move {
                match pieces.try_next().await? {
                    Some(piece) => {
                        hasher.update(&piece);
                        Ok(Some((piece, (pieces, hasher))))
                    }
                    None if hasher.digest() == digest => Ok(None),
                    None => Err(origin.found_damaged(&digest)),
                }
            }
        });
        Ok(checked.boxed())
    }

    /// Part of a blob as it comes, **not checked**: for sending to somebody who hashes the whole. To use a part, read it
    /// through [`crate::Store::read_range`]. What lies beyond the end is left out.
    pub async fn get_range(
        &self,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        self.pieces(digest, range).await
    }

    async fn pieces(
        &self,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let range = range.start.min(digest.length)..range.end.min(digest.length);
        if range.is_empty() {
            // Object stores refuse empty ranges, but whether the blob exists is still to be told.
            self.head(digest).await?.ok_or_else(|| self.missing_error(digest))?;
            return Ok(futures::stream::empty().boxed());
        }
        let key = key_of(digest);
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let result = match self.objects.get_opts(&key, options).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Err(self.missing_error(digest)),
            Err(source) => return Err(self.error("read", &key, 0, source)),
        };
        if result.meta.size != digest.length {
            return Err(self.found_damaged(digest));
        }
        let origin = self.clone();
        Ok(pieces_of(result).map_err(move |source| origin.error("read", &key, 0, source)).boxed())
    }
}

fn pieces_of(result: GetResult) -> BoxStream<'static, object_store::Result<Bytes>> {
    match result.payload {
        GetResultPayload::File(file, _) => pieces_of_file(file, result.range),
        GetResultPayload::Stream(stream) => stream,
    }
}

/// Reads a file in large pieces; the library's own stream takes a thread for every 8 KiB.
fn pieces_of_file(file: File, range: Range<u64>) -> BoxStream<'static, object_store::Result<Bytes>> {
    let pieces = futures::stream::try_unfold((file, range), async |(mut file, range): (File, Range<u64>)| {
        if range.is_empty() {
            return Ok(None);
        }
        let work = tokio::task::spawn_blocking(move || {
            let piece = read_piece(&mut file, &range)?;
            io::Result::Ok((file, range, piece))
        });
        let generic = |source| object_store::Error::Generic { store: "directory", source };
        let read = work.await.map_err(|error| generic(error.into()))?;
        let (file, range, piece) = read.map_err(|error| generic(error.into()))?;
        let rest = range.start + piece.len() as u64..range.end;
        Ok(Some((piece, (file, rest))))
    });
    pieces.boxed()
}

fn read_piece(file: &mut File, range: &Range<u64>) -> io::Result<Bytes> {
    file.seek(SeekFrom::Start(range.start))?;
    let wanted = (range.end - range.start).min(READ_BYTES as u64);
    let mut piece = Vec::with_capacity(wanted as usize);
    file.take(wanted).read_to_end(&mut piece)?;
    if piece.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(piece.into())
}
