//! Reading a backup, part after part, each checked before it is used.

use std::io::{self, BufReader, ErrorKind, Read};

use bytes::Bytes;
use flowyard_cas::BlobHasher;
use flowyard_model::{ClusterVersion, Digest, Record};
use flowyard_proto::peer::backup_part::Part;
use flowyard_proto::{SnapshotError, api, peer, read_records};
use prost::Message;

use super::{BACKUP_FORMAT, BackupError, FORMAT_AT, MAGIC, PART_BYTES, Summary};

/// The records of the state in a backup, as they are read.
pub type StateRecords<'a> = dyn Iterator<Item = Result<Record, SnapshotError>> + 'a;

/// A backup that is being read, in the order in which it was written.
pub struct BackupReader<R> {
    input: BufReader<R>,
    checksum: u32,
    hasher: blake3::Hasher,
    /// Where the next part begins.
    at: u64,
    head: peer::BackupHead,
    /// The next part, which was looked at already.
    next: Option<Part>,
    seen: peer::BackupTail,
    blob: Option<(Digest, BlobHasher)>,
    /// Why the state could not be read to its end.
    failed: Option<BackupError>,
}

/// Reads a whole backup and uses nothing of it.
///
/// # Errors
/// What is wrong with it.
pub fn verify(input: impl Read) -> Result<Summary, BackupError> {
    let mut backup = BackupReader::open(input)?;
    backup.state(|records| {
        for record in records {
            record?;
        }
        Ok::<_, SnapshotError>(())
    })??;
    while backup.next_blob()?.is_some() {
        while backup.bytes()?.is_some() {}
    }
    while backup.next_key()?.is_some() {}
    backup.finish()
}

impl<R: Read> BackupReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// When this is no backup, or a newer release wrote it.
    pub fn open(input: R) -> Result<Self, BackupError> {
        let mut this = Self {
            input: BufReader::with_capacity(256 * 1024, input),
            checksum: 0,
            hasher: blake3::Hasher::new(),
            at: 0,
            head: peer::BackupHead::default(),
            next: None,
            seen: peer::BackupTail::default(),
            blob: None,
            failed: None,
        };
        let mut magic = [0; MAGIC.len()];
        match this.input.read_exact(&mut magic) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(BackupError::NotABackup),
            read => read?,
        }
        if magic[..FORMAT_AT] != MAGIC[..FORMAT_AT] {
            return Err(BackupError::NotABackup);
        }
        if magic != MAGIC {
            return Err(BackupError::Newer { format: u32::from(magic[FORMAT_AT].wrapping_sub(b'0')) });
        }
        this.checksum = crc32c::crc32c(&magic);
        this.hasher.update(&magic);
        this.at = magic.len() as u64;
        match this.part()? {
            Part::Head(head) if head.format > BACKUP_FORMAT || head.cluster_version > ClusterVersion::NEWEST.0 => {
                Err(BackupError::Newer { format: head.format.max(BACKUP_FORMAT) })
            }
            Part::Head(head) => Ok(Self { head, ..this }),
            _ => Err(this.disorder("it does not begin with its head")),
        }
    }

    /// What it is of.
    pub fn head(&self) -> &peer::BackupHead {
        &self.head
    }

    /// Hands over the records of the state.
    ///
    /// # Errors
    /// When they are not there. Of a record that is damaged, the iterator tells.
    pub fn state<T>(&mut self, take: impl FnOnce(&mut StateRecords<'_>) -> T) -> Result<T, BackupError> {
        let pieces = StatePieces { of: self, piece: Bytes::new() };
        let mut count = 0;
        let taken = match read_records(zstd::Decoder::new(pieces)?) {
            Ok(records) => Ok(take(&mut records.inspect(|_| count += 1))),
            Err(error) => Err(error),
        };
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.seen.records = count;
        // What the packing adds behind the last record.
        while self.take(|part| matches!(part, Part::State(_)))?.is_some() {}
        Ok(taken?)
    }

    /// The next stretch of the log; what was not read of the one before is passed over.
    pub fn next_log(&mut self) -> Result<Option<Digest>, BackupError> {
        while self.bytes()?.is_some() {}
        match self.take(|part| matches!(part, Part::Log(_)))? {
            Some(Part::Log(digest)) => {
                self.seen.segments += 1;
                self.begin(digest).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The next blob; what was not read of the one before, and of the log, is passed over.
    pub fn next_blob(&mut self) -> Result<Option<Digest>, BackupError> {
        while self.next_log()?.is_some() {}
        while self.bytes()?.is_some() {}
        match self.take(|part| matches!(part, Part::Blob(_)))? {
            Some(Part::Blob(digest)) => {
                let digest = self.begin(digest)?;
                self.seen.blobs += 1;
                self.seen.blob_bytes += digest.length;
                Ok(Some(digest))
            }
            _ => Ok(None),
        }
    }

    fn begin(&mut self, digest: api::Digest) -> Result<Digest, BackupError> {
        let digest = Digest::try_from(digest).map_err(|_| self.disorder("a blob without a name"))?;
        self.blob = Some((digest, BlobHasher::new()));
        Ok(digest)
    }

    /// All bytes that are left of a blob.
    pub(super) fn rest(&mut self) -> Result<Vec<u8>, BackupError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.bytes()? {
            all.extend(bytes);
        }
        Ok(all)
    }

    /// The next bytes of the blob; after the last ones the blob is compared with its name.
    pub fn bytes(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Some((digest, mut hasher)) = self.blob.take() else { return Ok(None) };
        match self.take(|part| matches!(part, Part::Bytes(_)))? {
            Some(Part::Bytes(bytes)) => {
                hasher.update(&bytes);
                self.blob = Some((digest, hasher));
                Ok(Some(bytes))
            }
            _ if hasher.digest() == digest => Ok(None),
            _ => Err(BackupError::Blob { digest }),
        }
    }

    /// The next file of keys.
    pub fn next_key(&mut self) -> Result<Option<peer::BackupKey>, BackupError> {
        match self.take(|part| matches!(part, Part::Key(_)))? {
            Some(Part::Key(key)) => {
                self.seen.keys += 1;
                Ok(Some(key))
            }
            _ => Ok(None),
        }
    }

    /// Reads the tail, after which nothing may come.
    pub fn finish(mut self) -> Result<Summary, BackupError> {
        let tail = match self.next.take() {
            Some(part) => part,
            None => self.part()?,
        };
        let Part::Tail(tail) = tail else { return Err(self.disorder("a part where its end is expected")) };
        let mut after = [0];
        if self.input.read(&mut after)? > 0 {
            return Err(self.disorder("bytes after its end"));
        }
        let seen = peer::BackupTail { lost_blobs: tail.lost_blobs, blake3: self.seen.blake3.clone(), ..self.seen };
        if seen != tail {
            return Err(BackupError::Damaged { at: self.at });
        }
        Ok(Summary { head: self.head, tail, bytes: self.at })
    }

    /// The next part, if it is of this kind.
    fn take(&mut self, is: impl Fn(&Part) -> bool) -> Result<Option<Part>, BackupError> {
        if self.next.is_none() {
            self.next = Some(self.part()?);
        }
        Ok(self.next.take_if(|part| is(part)))
    }

    fn part(&mut self) -> Result<Part, BackupError> {
        let at = self.at;
        // Of everything before the part: what its tail is compared with.
        let before = self.hasher.finalize();
        let (length, expected) = (self.word()?, self.word()?);
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > PART_BYTES {
            return Err(BackupError::Damaged { at });
        }
        let mut message = vec![0; bytes];
        self.exactly(&mut message)?;
        self.checksum = crc32c::crc32c_append(crc32c::crc32c_append(self.checksum, &length), &message);
        if self.checksum.to_le_bytes() != expected {
            return Err(BackupError::Damaged { at });
        }
        let part = peer::BackupPart::decode(message.as_slice()).map_err(|_| BackupError::Damaged { at })?;
        match part.part {
            Some(part) => {
                if let Part::Tail(_) = part {
                    self.seen.blake3 = Bytes::copy_from_slice(before.as_bytes());
                }
                Ok(part)
            }
            // A kind that this build does not know.
            None => Err(BackupError::Newer { format: BACKUP_FORMAT + 1 }),
        }
    }

    fn word(&mut self) -> Result<[u8; 4], BackupError> {
        let mut word = [0; 4];
        self.exactly(&mut word)?;
        Ok(word)
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), BackupError> {
        match self.input.read_exact(buffer) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(BackupError::Cut { at: self.at }),
            read => read?,
        }
        self.hasher.update(buffer);
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn disorder(&self, what: &'static str) -> BackupError {
        BackupError::Disorder { at: self.at, what }
    }
}

/// The bytes of the state, as one stream.
struct StatePieces<'a, R> {
    of: &'a mut BackupReader<R>,
    piece: Bytes,
}

impl<R: Read> Read for StatePieces<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.of.take(|part| matches!(part, Part::State(_))) {
                Ok(Some(Part::State(piece))) => self.piece = piece,
                Ok(_) => return Ok(0),
                Err(error) => {
                    self.of.failed = Some(error);
                    return Err(ErrorKind::InvalidData.into());
                }
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}
