//! Turning bytes into a [`Digest`]: BLAKE3 and the length. Large files are streamed, never held in memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use flowyard_model::Digest;

use crate::StoreError;

/// How much of a file is read at once: large enough for BLAKE3's widest lanes, small enough for the cache.
pub(crate) const READ_BYTES: usize = 256 * 1024;

/// Every byte that this process hashed: all that comes, goes or is stored is hashed on its way.
static HASHED: AtomicU64 = AtomicU64::new(0);

/// How many bytes this process has hashed so far. Whoever waits for bytes can tell by it that some still move.
pub fn hashed_bytes() -> u64 {
    HASHED.load(Ordering::Relaxed)
}

/// Hashes bytes as they pass by.
#[derive(Debug, Clone, Default)]
pub struct BlobHasher {
    hasher: blake3::Hasher,
    length: u64,
}

impl BlobHasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        HASHED.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.length += bytes.len() as u64;
    }

    /// How many bytes were taken in.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest of everything taken in.
    pub fn digest(&self) -> Digest {
        Digest { hash: *self.hasher.finalize().as_bytes(), length: self.length }
    }
}

/// The digest of `bytes`.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    HASHED.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Digest { hash: *blake3::hash(bytes).as_bytes(), length: bytes.len() as u64 }
}

/// The digest of everything `reader` gives.
pub fn digest_reader(reader: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = BlobHasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.digest()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of an open file from its current position; files of a few pages are read in one go.
pub(crate) fn digest_open_file(file: &mut File, length_hint: u64) -> io::Result<Digest> {
    if length_hint >= READ_BYTES as u64 {
        return digest_reader(file);
    }
    let mut bytes = Vec::with_capacity(length_hint as usize + 1);
    file.read_to_end(&mut bytes)?;
    Ok(digest_bytes(&bytes))
}

/// The digest of the file at `path`.
pub fn digest_file(path: &Path) -> Result<Digest, StoreError> {
    let mut file = File::open(path).map_err(|source| StoreError::io("open", path, 0, source))?;
    digest_reader(&mut file).map_err(|source| StoreError::io("read", path, 0, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_hashing_gives_the_same_digest() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES + 7] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let path = folder.path().join(length.to_string());
            std::fs::write(&path, &bytes).unwrap();
            let expected = digest_bytes(&bytes);
            assert_eq!(expected.length, length as u64);
            assert_eq!(digest_file(&path).unwrap(), expected);
            let mut file = File::open(&path).unwrap();
            assert_eq!(digest_open_file(&mut file, length as u64).unwrap(), expected);
            let mut hasher = BlobHasher::new();
            bytes.chunks(999).for_each(|chunk| hasher.update(chunk));
            assert_eq!(hasher.digest(), expected);
        }
    }

    #[test]
    fn whatever_is_hashed_is_counted() {
        let before = hashed_bytes();
        digest_bytes(&[7; 100]);
        BlobHasher::new().update(&[7; 50]);
        assert!(hashed_bytes() >= before + 150);
    }

    #[test]
    fn the_hash_is_plain_blake3() {
        let hex = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262-0";
        assert_eq!(digest_bytes(b"").to_string(), hex);
    }
}
