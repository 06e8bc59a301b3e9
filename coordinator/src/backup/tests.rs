//! What is written is read back, and nothing else is.

use bytes::Bytes;
use flowyard_cas::digest_bytes;
use flowyard_proto::peer::BackupHead;
use flowyard_state::State;

use super::*;

fn head() -> BackupHead {
    BackupHead { cluster: "c".to_owned(), revision: 7, cluster_version: 1, ..BackupHead::default() }
}

/// A backup of an empty state, with a blob larger than one piece, an empty one, and a key.
fn written() -> Vec<u8> {
    let mut backup = BackupWriter::begin(Vec::new(), head()).unwrap();
    backup.state(&State::new().view()).unwrap();
    for blob in [Bytes::from(vec![7; PIECE_BYTES + 9]), Bytes::new()] {
        backup.blob(digest_bytes(&blob)).unwrap();
        backup.bytes(blob).unwrap();
    }
    backup.key("authority.pem", "secret".into()).unwrap();
    backup.finish(3).unwrap()
}

#[test]
fn everything_comes_back_in_order() {
    let bytes = written();
    let mut backup = BackupReader::open(bytes.as_slice()).unwrap();
    assert_eq!(backup.head(), &BackupHead { format: BACKUP_FORMAT, ..head() });
    let records = backup.state(|records| records.collect::<Result<Vec<_>, _>>()).unwrap().unwrap();
    assert_eq!(State::from_records(records).unwrap(), State::new());
    let first = backup.next_blob().unwrap().unwrap();
    assert_eq!(first.length as usize, PIECE_BYTES + 9);
    assert_eq!(backup.bytes().unwrap().map(|piece| piece.len()), Some(PIECE_BYTES));
    // The rest of it is passed over, and compared with its name all the same.
    assert_eq!(backup.next_blob().unwrap(), Some(digest_bytes(b"")));
    assert_eq!(backup.next_blob().unwrap(), None);
    assert_eq!(backup.next_key().unwrap().map(|key| key.content), Some("secret".into()));
    assert_eq!(backup.next_key().unwrap(), None);
    let summary = backup.finish().unwrap();
    assert_eq!((summary.tail.blobs, summary.tail.keys, summary.tail.lost_blobs), (2, 1, 3));
    assert_eq!(summary, verify(bytes.as_slice()).unwrap());
    assert_eq!(summary.bytes, bytes.len() as u64);
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_refused() {
    let whole = written();
    for end in (0..whole.len()).filter(|end| *end < 600 || whole.len() - end < 200 || end % 50_021 == 0) {
        let error = verify(&whole[..end]).expect_err("it lacks its end");
        let expected = matches!(error, BackupError::Cut { .. }) || end < MAGIC.len();
        assert!(expected, "cut to {end}: {error}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(matches!(verify(longer.as_slice()), Err(BackupError::Disorder { what: "bytes after its end", .. })));
}

#[test]
fn any_changed_byte_is_noticed() {
    let whole = written();
    for at in (0..whole.len()).filter(|at| *at < 600 || whole.len() - at < 200 || at % 50_021 == 0) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert!(verify(bytes.as_slice()).is_err(), "byte {at}");
    }
}

#[test]
fn a_newer_format_and_a_foreign_file_are_named_as_such() {
    let mut newer = written();
    newer[FORMAT_AT] = b'2';
    let told = verify(newer.as_slice()).unwrap_err().to_string();
    assert!(told.contains("a newer release of Flowyard wrote this backup (format 2;"), "{told}");
    let version = BackupHead { cluster_version: 99, ..head() };
    let bytes = BackupWriter::begin(Vec::new(), version).unwrap().finish(0).unwrap();
    assert!(matches!(verify(bytes.as_slice()), Err(BackupError::Newer { .. })));
    for foreign in [&b"PK\x03\x04 a zip file"[..], b"", b"FLOWSNAP and more"] {
        assert!(matches!(verify(foreign), Err(BackupError::NotABackup)));
    }
}

#[test]
fn parts_that_are_missing_are_missed() {
    let mut without_state = BackupWriter::begin(Vec::new(), head()).unwrap();
    without_state.blob(digest_bytes(b"")).unwrap();
    assert!(verify(without_state.finish(0).unwrap().as_slice()).is_err());
    let mut wrong = BackupWriter::begin(Vec::new(), head()).unwrap();
    wrong.state(&State::new().view()).unwrap();
    wrong.blob(digest_bytes(b"one")).unwrap();
    wrong.bytes(Bytes::from_static(b"two")).unwrap();
    assert!(matches!(verify(wrong.finish(0).unwrap().as_slice()), Err(BackupError::Blob { .. })));
}
