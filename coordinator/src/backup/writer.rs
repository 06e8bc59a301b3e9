//! Writing a backup, part after part.

use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use flowyard_model::Digest;
use flowyard_proto::peer::backup_part::Part;
use flowyard_proto::{peer, write_records};
use flowyard_state::View;
use prost::Message;

use super::{BACKUP_FORMAT, BackupError, MAGIC, PIECE_BYTES, ZSTD_LEVEL};

/// A backup that is being written: the head when it is made, then the state, the log, the blobs, the keys, and the tail.
pub struct BackupWriter<W> {
    out: W,
    checksum: u32,
    hasher: blake3::Hasher,
    tail: peer::BackupTail,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup. The format is filled in.
    ///
    /// # Errors
    /// When the medium fails, as with all that follows.
    pub fn begin(out: W, head: peer::BackupHead) -> Result<Self, BackupError> {
        let mut this = Self { out, checksum: 0, hasher: blake3::Hasher::new(), tail: peer::BackupTail::default() };
        this.write(&MAGIC)?;
        this.part(Part::Head(peer::BackupHead { format: BACKUP_FORMAT, ..head }))?;
        Ok(this)
    }

    /// Writes the state.
    pub fn state(&mut self, view: &View) -> Result<(), BackupError> {
        let pieces = BufWriter::with_capacity(PIECE_BYTES, StatePieces { of: self });
        let mut packed = zstd::Encoder::new(pieces, ZSTD_LEVEL)?;
        let records = write_records(view.version(), view.records(), &mut packed)?;
        packed.finish()?.flush()?;
        self.tail.records = records;
        Ok(())
    }

    /// Writes a stretch of the log, as a sealed segment is written. Comes before the blobs.
    pub fn log(&mut self, digest: Digest, segment: Bytes) -> Result<(), BackupError> {
        self.begin_log(digest)?;
        self.bytes(segment)
    }

    /// Begins a stretch of the log; its bytes follow.
    pub(crate) fn begin_log(&mut self, digest: Digest) -> Result<(), BackupError> {
        self.tail.segments += 1;
        self.part(Part::Log(digest.into()))
    }

    /// Begins a blob; its bytes follow.
    pub fn blob(&mut self, digest: Digest) -> Result<(), BackupError> {
        self.tail.blobs += 1;
        self.tail.blob_bytes += digest.length;
        self.part(Part::Blob(digest.into()))
    }

    /// The next bytes of the blob.
    pub fn bytes(&mut self, mut bytes: Bytes) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.part(Part::Bytes(piece))?;
        }
        Ok(())
    }

    /// Writes a file of keys.
    pub fn key(&mut self, file: &str, content: Bytes) -> Result<(), BackupError> {
        self.tail.keys += 1;
        self.part(Part::Key(peer::BackupKey { file: file.to_owned(), content }))
    }

    /// Ends the backup, in which this many blobs are missing.
    pub fn finish(mut self, lost_blobs: u64) -> Result<W, BackupError> {
        let blake3 = Bytes::copy_from_slice(self.hasher.finalize().as_bytes());
        let tail = peer::BackupTail { lost_blobs, blake3, ..std::mem::take(&mut self.tail) };
        self.part(Part::Tail(tail))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn part(&mut self, part: Part) -> Result<(), BackupError> {
        let message = peer::BackupPart { part: Some(part) }.encode_to_vec();
        let length = (message.len() as u32).to_le_bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(self.checksum, &length), &message);
        self.hashed(&length)?;
        self.hashed(&checksum.to_le_bytes())?;
        self.hashed(&message)?;
        self.checksum = checksum;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.hashed(bytes)
    }

    fn hashed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Makes each write a part of the state.
struct StatePieces<'a, W> {
    of: &'a mut BackupWriter<W>,
}

impl<W: Write> Write for StatePieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        self.of.part(Part::State(Bytes::copy_from_slice(piece))).map_err(io::Error::other)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
