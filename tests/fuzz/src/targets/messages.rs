//! What clients, agents and replicas send, and the records of the log and of snapshots.

use flowyard_agent::launcher::protocol::{Event, Incoming, Request, encode};
use flowyard_coordinator::raft::decoders;
use flowyard_golden::{release, script};
use flowyard_model::{AttemptReport, Command, Desired, JobSpec, Record, RegisterNode};
use flowyard_proto::{agent, api, peer, request};
use flowyard_proto::{
    decode_entry, decode_record, decode_reply, decode_spec, encode_entry, encode_record, encode_reply, encode_spec,
    read_records,
};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Target, quick};

pub(super) const TARGETS: &[Target] = &[
    quick("entry", entry, entries),
    quick("record", record, records),
    quick("spec", spec, specs),
    quick("reply", reply, Vec::new),
    quick("snapshot", snapshot, snapshots),
    quick("desired", desired, Vec::new),
    quick("hello", hello, hellos),
    quick("report", report, reports),
    quick("submission", submission, submissions),
    quick("raft-entry", |bytes| again(bytes, decoders::entry), raft_entries),
    quick("raft-append", |bytes| again(bytes, decoders::append), raft_appends),
    quick("raft-ballot", |bytes| again(bytes, decoders::ballot), ballots),
    quick("raft-snapshot-head", |bytes| again(bytes, decoders::snapshot_head), Vec::new),
    quick("raft-frame", decoders::framed, Vec::new),
    quick("launcher-request", launcher::<Request>, launcher_requests),
    quick("launcher-event", launcher::<Event>, launcher_requests),
];

/// Reads, writes, and reads again.
fn again(bytes: &[u8], read: fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    let Some(written) = read(bytes) else { return false };
    assert_eq!(read(&written).as_ref(), Some(&written), "it changes when it is written again");
    true
}

fn commands() -> Vec<Command> {
    script().into_iter().map(|(_, command)| command).collect()
}

fn entry(bytes: &[u8]) -> bool {
    let Ok((time, command)) = decode_entry(bytes) else { return false };
    let written = encode_entry(time, &command).expect("what was read can be written");
    assert_eq!(decode_entry(&written), Ok((time, command)));
    true
}

fn entries() -> Vec<Vec<u8>> {
    script().iter().map(|(time, command)| encode_entry(*time, command).expect("it is valid")).collect()
}

fn record(bytes: &[u8]) -> bool {
    let Ok(record) = decode_record(bytes) else { return false };
    assert_eq!(decode_record(&encode_record(&record)), Ok(record));
    true
}

fn released() -> Vec<u8> {
    release::file(&release::folder(Some("0.1.0")), "snapshot").expect("the release is kept")
}

fn records() -> Vec<Vec<u8>> {
    let snapshot = released();
    let records = read_records(&snapshot[..]).expect("the snapshot is whole");
    records.map(|record: Result<Record, _>| encode_record(&record.expect("the record is whole"))).collect()
}

fn snapshot(bytes: &[u8]) -> bool {
    read_records(bytes).is_ok_and(|mut records| records.all(|record| record.is_ok()))
}

fn snapshots() -> Vec<Vec<u8>> {
    vec![released()]
}

fn spec(bytes: &[u8]) -> bool {
    let Ok(spec) = decode_spec(bytes) else { return false };
    assert_eq!(decode_spec(&encode_spec(&spec).expect("what was read can be written")), Ok(spec));
    true
}

fn job_specs() -> Vec<JobSpec> {
    let of = |command| if let Command::SubmitJob(submit) = command { Some(JobSpec::clone(&submit.spec)) } else { None };
    commands().into_iter().filter_map(of).collect()
}

fn specs() -> Vec<Vec<u8>> {
    job_specs().iter().map(|spec| encode_spec(spec).expect("it is valid")).collect()
}

fn reply(bytes: &[u8]) -> bool {
    let Ok(reply) = decode_reply(bytes) else { return false };
    assert_eq!(decode_reply(&encode_reply(&reply)), Ok(reply));
    true
}

fn desired(bytes: &[u8]) -> bool {
    agent::Desired::decode(bytes).is_ok_and(|desired| Desired::try_from(desired).is_ok())
}

fn hello(bytes: &[u8]) -> bool {
    agent::Hello::decode(bytes).is_ok_and(|hello| request::hello(hello).is_ok())
}

fn hellos() -> Vec<Vec<u8>> {
    let of = |command| if let Command::RegisterNode(node) = command { Some(node) } else { None };
    let nodes: Vec<RegisterNode> = commands().into_iter().filter_map(of).collect();
    nodes.iter().map(|node| request::to_hello(node, &attempt_reports()).encode_to_vec()).collect()
}

fn attempt_reports() -> Vec<AttemptReport> {
    let of = |command: Command| command.reports().iter().flat_map(|agent| agent.reports.clone()).collect::<Vec<_>>();
    commands().into_iter().flat_map(of).collect()
}

fn report(bytes: &[u8]) -> bool {
    let Ok(wire) = api::AttemptReport::decode(bytes) else { return false };
    let Ok(report) = AttemptReport::try_from(wire) else { return false };
    assert_eq!(AttemptReport::try_from(api::AttemptReport::from(&report)), Ok(report));
    true
}

fn reports() -> Vec<Vec<u8>> {
    attempt_reports().iter().map(|report| api::AttemptReport::from(report).encode_to_vec()).collect()
}

fn submission(bytes: &[u8]) -> bool {
    api::SubmitRequest::decode(bytes).is_ok_and(|submit| request::submission(submit).is_ok())
}

fn submissions() -> Vec<Vec<u8>> {
    let wire = |spec: &JobSpec| api::SubmitRequest { spec: Some(spec.into()), key: Some("key".into()) };
    job_specs().iter().map(|spec| wire(spec).encode_to_vec()).collect()
}

fn raft_entries() -> Vec<Vec<u8>> {
    // A format, then a command.
    entries()
        .iter()
        .map(|entry| [&[8, 1, 18, entry.len().min(127) as u8], &entry[..entry.len().min(127)]].concat())
        .collect()
}

fn raft_appends() -> Vec<Vec<u8>> {
    let at = |index| Some(peer::LogPoint { term: 1, index });
    let entry = |record: Vec<u8>| peer::RaftEntry { at: at(2), record: record.into() };
    let vote = Some(peer::Ballot { term: 1, candidate: 1, granted: true });
    let append = |record| peer::AppendRequest {
        envelope: None,
        vote,
        previous: at(1),
        entries: vec![entry(record)],
        committed: at(1),
    };
    raft_entries().into_iter().map(|record| append(record).encode_to_vec()).collect()
}

fn ballots() -> Vec<Vec<u8>> {
    let vote = Some(peer::Ballot { term: 7, candidate: 2, granted: false });
    let last = Some(peer::LogPoint { term: 6, index: 90 });
    vec![peer::VoteRequest { envelope: None, vote, last, leadership_transfer: true }.encode_to_vec()]
}

fn launcher<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> bool {
    let mut incoming = Incoming::default();
    incoming.extend(bytes);
    let mut taken = 0;
    while let Ok(Some(record)) = incoming.take::<T>() {
        let (mut written, mut again) = (Vec::new(), Incoming::default());
        encode(&record, &mut written);
        again.extend(&written);
        assert_eq!(again.take::<T>().ok().flatten(), Some(record));
        taken += 1;
    }
    taken > 0
}

fn launcher_requests() -> Vec<Vec<u8>> {
    let stop = Request::Stop { folder: "/a/b".into(), grace_ms: Some(5), notice_ms: None };
    let events = [Event::Started { folder: "/a/b".into(), pid: 7, at_ms: 9 }, Event::ShutdownRefused { running: 3 }];
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for request in [Request::List, Request::Shutdown { kill: true }, stop] {
        let mut bytes = Vec::new();
        encode(&request, &mut bytes);
        inputs.push(bytes);
    }
    for event in &events {
        let mut bytes = Vec::new();
        encode(event, &mut bytes);
        inputs.push(bytes);
    }
    inputs
}
