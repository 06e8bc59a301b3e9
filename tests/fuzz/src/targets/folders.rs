//! What a coordinator and an agent find in their own folders when they start.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_agent::remembers_from;
use flowyard_cas::digest_bytes;
use flowyard_coordinator::backup::{BackupWriter, verify};
use flowyard_coordinator::raft::decoders;
use flowyard_coordinator::sealed_again;
use flowyard_golden::script;
use flowyard_identity::Keyring;
use flowyard_model::*;
use flowyard_proto::peer::BackupHead;
use flowyard_state::State;
use serde::Serialize;

use super::{Target, quick, text, texts};

pub(super) const TARGETS: &[Target] = &[
    quick("replica-record", |bytes| again(bytes, decoders::home), replica_records),
    quick("log-witness", |bytes| again(bytes, decoders::witness), witnesses),
    Target { name: "snapshot-file", run: snapshot_file, corpus: snapshot_files, inputs: 200 },
    Target { name: "snapshot-pointer", run: snapshot_pointer, corpus: || texts(&["snapshot-empty\n"]), inputs: 200 },
    quick("sealed-segment", |bytes| again(bytes, sealed_again), segments),
    Target { name: "backup", run: |bytes| verify(bytes).is_ok(), corpus: backups, inputs: 1_000 },
    quick("keys-of-secrets", keyring, keyrings),
    Target { name: "agent-journal", run: journal, corpus: journals, inputs: 300 },
];

/// What is accepted is accepted again once written down, and written down the same.
fn again(bytes: &[u8], read: fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    let Some(written) = read(bytes) else { return false };
    assert_eq!(read(&written), Some(written.clone()), "it is read otherwise once written down");
    true
}

fn replica_records() -> Vec<Vec<u8>> {
    texts(&[
        "flowyard-replica 1\ncluster 0193f0a0-0000-7000-8000-000000000001\nepoch 0\nreplica 17\nengine sled\nformed true\n",
    ])
}

fn witnesses() -> Vec<Vec<u8>> {
    let noted = [&b"FYWITN1\n"[..], &7_u64.to_le_bytes(), &3_u64.to_le_bytes()].concat();
    vec![[&noted[..], &crc32c::crc32c(&noted).to_le_bytes()].concat()]
}

const MACHINE: &[u8] = b"what a machine writes down of itself";
const SNAPSHOT: &str = "snapshot-empty";

fn snapshot_file(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("current"), format!("{SNAPSHOT}\n")).expect("a file");
    std::fs::write(folder.path().join(SNAPSHOT), bytes).expect("a file");
    decoders::snapshot_folder(folder.path()).is_some()
}

fn snapshot_files() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    decoders::make_snapshot_folder(folder.path(), MACHINE).expect("it can be written");
    vec![std::fs::read(folder.path().join(SNAPSHOT)).expect("it is there")]
}

/// The bytes are the pointer; the snapshot that it should name is whole.
fn snapshot_pointer(bytes: &[u8]) -> bool {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("snapshots");
    decoders::make_snapshot_folder(&folder, MACHINE).expect("it can be written");
    std::fs::write(outer.path().join(SNAPSHOT), b"not in the folder").expect("a file");
    std::fs::write(folder.join("current"), bytes).expect("a file");
    let read = decoders::snapshot_folder(&folder);
    assert!(read.is_none_or(|read| read == MACHINE.len() as u64), "another snapshot was read");
    assert!(outer.path().join(SNAPSHOT).exists(), "a file beside the folder is gone");
    read.is_some()
}

fn segments() -> Vec<Vec<u8>> {
    let frame = |index: u64, payload: &[u8]| {
        let (term, length) = (1_u64, payload.len() as u32);
        [&index.to_le_bytes()[..], &term.to_le_bytes(), &length.to_le_bytes(), payload].concat()
    };
    let plain = [frame(5, b"one"), frame(6, b""), frame(7, b"three")].concat();
    let packed = zstd::encode_all(&plain[..], 3).expect("it is compressed in memory");
    vec![[&b"FYLOGSG1"[..], &packed].concat()]
}

fn backups() -> Vec<Vec<u8>> {
    let head = BackupHead { cluster: "c".to_owned(), revision: 7, cluster_version: 1, ..BackupHead::default() };
    let mut backup = BackupWriter::begin(Vec::new(), head).expect("it is written in memory");
    backup.state(&State::new().view()).expect("it is written in memory");
    backup.blob(digest_bytes(b"blob")).expect("it is written in memory");
    backup.bytes(b"blob".as_slice().into()).expect("it is written in memory");
    backup.key("authority.pem", b"secret".as_slice().into()).expect("it is written in memory");
    vec![backup.finish(0).expect("it is written in memory")]
}

fn keyring(bytes: &[u8]) -> bool {
    let Some(keys) = Keyring::from_text(text(bytes)) else { return false };
    let again = Keyring::from_text(&keys.to_text()).expect("what was written can be read");
    assert_eq!(again.fingerprints(), keys.fingerprints());
    true
}

fn keyrings() -> Vec<Vec<u8>> {
    let mut keys = Keyring::default();
    keys.grow();
    keys.grow();
    texts(&[keys.to_text().as_str()])
}

/// An agent starts with it, whatever it holds, remembers what it understands, and the next one remembers the same.
fn journal(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    std::fs::write(&path, bytes).expect("a file");
    let open = |path: &Path| remembers_from(path).expect("a journal of anything can be opened");
    let remembers = open(&path);
    let first = std::fs::read(&path).expect("it is there");
    assert_eq!(open(&path), remembers);
    assert_eq!(std::fs::read(&path).expect("it is there"), first, "another start remembers otherwise");
    remembers
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it is plain data")
}

fn journals() -> Vec<Vec<u8>> {
    let submit = script().into_iter().find_map(|(_, command)| match command {
        Command::SubmitJob(submit) => Some(submit),
        _ => None,
    });
    let spec = submit.expect("a release submits jobs").spec.steps[0].clone();
    let (job, step, name) = (JobId(1), StepIndex(0), spec.name.clone());
    let (lists, params) = (Default::default(), BTreeMap::new());
    let context = StepContext { job, step, job_name: name, lists, params, owner: "u".to_owned(), spec };
    let task = TaskKey { job, step, task: TaskIndex(3) };
    let key = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
    let (gpus, inputs) = (Vec::new(), BTreeMap::new());
    let member = DesiredMember { key, gpus, gpu_alternative: 0, inputs, item: None, known: Phase::Placed, gang: None };
    let lines = [
        "{\"registered\":{\"cluster\":\"c\",\"epoch\":0,\"node\":1,\"incarnation\":2}}".to_owned(),
        format!("{{\"step\":{}}}", json(&context)),
        format!("{{\"accepted\":{}}}", json(&member)),
    ];
    let over = format!("{{\"forgotten\":{}}}", json(&key));
    let live = lines.join("\n") + "\n";
    vec![live.clone().into_bytes(), format!("{live}{over}\n").into_bytes()]
}
