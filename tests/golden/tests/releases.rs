//! Every release's log and snapshot still lead to the state that they led to, and the wire contract keeps what it promised.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use flowyard_golden::contract::{breaches, kinds};
use flowyard_golden::{release, script};
use prost::Message;
use prost_types::FileDescriptorSet;

/// What the next release will be checked with, under this name until it is out; then its folder gets the name of its version.
const NEXT: &str = "next";

/// The folders of all releases, after the present one was written if that was asked for.
static RELEASES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    if std::env::var_os("UPDATE").is_some() {
        release::write(&release::folder(Some(NEXT)), &script()).unwrap();
    }
    release::all().unwrap()
});

/// What to do about a difference, which depends on whether somebody runs that release already.
fn advice(folder: &Path) -> String {
    format!(
        "{}: a release must stay readable; if this one is not out yet, UPDATE=1 cargo test -p flowyard-golden writes it anew",
        folder.display()
    )
}

fn expected(folder: &Path) -> String {
    String::from_utf8(release::file(folder, "digest").unwrap()).unwrap().trim().to_owned()
}

#[test]
fn there_is_a_release_to_compare_with() {
    assert!(!RELEASES.is_empty());
}

#[test]
fn every_log_still_leads_to_its_state() {
    for folder in &*RELEASES {
        let log = release::log(folder).unwrap_or_else(|error| panic!("{error}: {}", advice(folder)));
        let state = release::replay(log);
        flowyard_state::check_all(&state).unwrap();
        assert_eq!(release::digest(state.records()), expected(folder), "{}", advice(folder));
    }
}

#[test]
fn every_snapshot_still_is_that_state() {
    for folder in &*RELEASES {
        let state = release::snapshot(folder).unwrap();
        flowyard_state::check_all(&state).unwrap();
        assert_eq!(release::digest(state.records()), expected(folder), "{}", advice(folder));
        assert_eq!(state, release::replay(release::log(folder).unwrap()), "{}", advice(folder));
    }
}

#[test]
fn the_wire_contract_only_grows() {
    let now = FileDescriptorSet::decode(flowyard_proto::DESCRIPTORS).unwrap();
    for folder in &*RELEASES {
        let bytes = release::file(folder, "descriptors.bin").unwrap();
        let old = FileDescriptorSet::decode(bytes.as_slice()).unwrap();
        assert_eq!(breaches(&old, &now), Vec::<String>::new(), "{}", advice(folder));
    }
}

#[test]
fn the_script_uses_every_command_and_leaves_every_kind_of_record() {
    let contract = FileDescriptorSet::decode(flowyard_proto::DESCRIPTORS).unwrap();
    let entries = script();
    let commands = distinct(entries.iter().map(|(_, command)| format!("{:?}", discriminant(command))));
    assert_eq!(commands, kinds(&contract, "flowyard.peer.v1.LogEntry", "command").len());
    let state = release::replay(entries);
    let records = distinct(state.records().map(|record| format!("{:?}", discriminant(&record))));
    assert_eq!(records, kinds(&contract, "flowyard.peer.v1.Record", "kind").len());
}

fn distinct(values: impl Iterator<Item = String>) -> usize {
    values.collect::<BTreeSet<_>>().len()
}
