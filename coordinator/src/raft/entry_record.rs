//! How an entry, a membership and the head of a snapshot are written down.
//!
//! Protobuf messages, tags only added, never reused. They hold nothing of the Raft library's own types, so that a new version
//! of the library cannot change what old logs mean.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::{BasicNode, EntryPayload};
use prost::Message;

use super::engine::{LogPoint, Record};
use super::types::{Entry, Membership, Proposal, SnapshotMeta, StoredMembership, log_id, log_point};

/// The record format written and read here.
pub(super) const RECORD_FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct EntryRecord {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(oneof = "Body", tags = "2, 3, 4")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Body {
    /// Bytes for the machine.
    #[prost(bytes = "bytes", tag = "2")]
    Command(Bytes),
    #[prost(message, tag = "3")]
    Membership(MembershipRecord),
    /// An entry without content, which a new leader writes to commit what came before.
    #[prost(message, tag = "4")]
    Blank(BlankRecord),
}

#[derive(Clone, PartialEq, Message)]
struct BlankRecord {}

#[derive(Clone, PartialEq, Message)]
struct MembershipRecord {
    /// One configuration, or two while changing from one to the other.
    #[prost(message, repeated, tag = "1")]
    configs: Vec<VotersRecord>,
    /// Every member, voter or learner.
    #[prost(message, repeated, tag = "2")]
    members: Vec<MemberRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct VotersRecord {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct MemberRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    address: String,
}

#[derive(Clone, PartialEq, Message)]
struct PointRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SnapshotHead {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, optional, tag = "2")]
    last: Option<PointRecord>,
    #[prost(message, optional, tag = "3")]
    membership_at: Option<PointRecord>,
    #[prost(message, optional, tag = "4")]
    membership: Option<MembershipRecord>,
}

/// A record that cannot be understood. Going on without it would make replicas differ, so the replica stops.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not a record of ours.
    #[error("not a record of this program")]
    Undecodable(#[from] prost::DecodeError),
    /// Written by a newer version.
    #[error("record format {found} is newer than {RECORD_FORMAT}, the newest this version reads")]
    Newer {
        /// The format found.
        found: u32,
    },
    /// The membership contradicts itself.
    #[error("the membership names voters that are no members")]
    Membership,
    /// It lacks what it must have.
    #[error("record without {0}")]
    Incomplete(&'static str),
}

fn check_format(format: u32) -> Result<(), RecordError> {
    match format {
        0 => Err(RecordError::Incomplete("a format")),
        1..=RECORD_FORMAT => Ok(()),
        found => Err(RecordError::Newer { found }),
    }
}

pub(super) fn encode_entry(entry: Entry) -> Record {
    let point = log_point(&entry.log_id());
    let body = match entry.payload {
        EntryPayload::Blank => Body::Blank(BlankRecord {}),
        EntryPayload::Normal(Proposal(bytes)) => Body::Command(bytes),
        EntryPayload::Membership(membership) => Body::Membership(membership_record(&membership)),
    };
    let payload = EntryRecord { format: RECORD_FORMAT, body: Some(body) }.encode_to_vec();
    Record { point, payload: payload.into() }
}

pub(super) fn decode_entry(record: Record) -> Result<Entry, RecordError> {
    let decoded = EntryRecord::decode(record.payload)?;
    check_format(decoded.format)?;
    let payload = match decoded.body.ok_or(RecordError::Incomplete("a body"))? {
        Body::Blank(_) => EntryPayload::Blank,
        Body::Command(bytes) => EntryPayload::Normal(Proposal(bytes)),
        Body::Membership(membership) => EntryPayload::Membership(membership_of(membership)?),
    };
    Ok(Entry::new(log_id(record.point), payload))
}

/// The command of an entry as it is kept; `None` for one that is about the log itself.
///
/// # Errors
/// When it cannot be understood.
pub fn command_of(record: &Record) -> Result<Option<Bytes>, RecordError> {
    match decode_entry(record.clone())?.payload {
        EntryPayload::Normal(Proposal(command)) => Ok(Some(command)),
        EntryPayload::Blank | EntryPayload::Membership(_) => Ok(None),
    }
}

/// What an entry adds to the bytes of its command at most.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;

fn membership_record(membership: &Membership) -> MembershipRecord {
    let configs = membership.get_joint_config().iter();
    MembershipRecord {
        configs: configs.map(|voters| VotersRecord { voters: voters.iter().copied().collect() }).collect(),
        members: membership.nodes().map(|(id, node)| MemberRecord { id: *id, address: node.addr.clone() }).collect(),
    }
}

fn membership_of(record: MembershipRecord) -> Result<Membership, RecordError> {
    let configs: Vec<BTreeSet<u64>> =
        record.configs.into_iter().map(|config| config.voters.into_iter().collect()).collect();
    let members: BTreeMap<u64, BasicNode> =
        record.members.into_iter().map(|member| (member.id, BasicNode { addr: member.address })).collect();
    Membership::new(configs, members).map_err(|_| RecordError::Membership)
}

impl From<LogPoint> for PointRecord {
    fn from(point: LogPoint) -> Self {
        Self { term: point.term, index: point.index }
    }
}

impl From<PointRecord> for LogPoint {
    fn from(record: PointRecord) -> Self {
        Self { term: record.term, index: record.index }
    }
}

pub(super) fn encode_head(meta: &SnapshotMeta) -> Vec<u8> {
    let point = |id: &super::types::LogId| PointRecord::from(log_point(id));
    SnapshotHead {
        format: RECORD_FORMAT,
        last: meta.last_log_id.as_ref().map(point),
        membership_at: meta.last_membership.log_id().as_ref().map(point),
        membership: Some(membership_record(meta.last_membership.membership())),
    }
    .encode_to_vec()
}

pub(super) fn decode_head(bytes: &[u8]) -> Result<SnapshotMeta, RecordError> {
    let head = SnapshotHead::decode(bytes)?;
    check_format(head.format)?;
    let membership = membership_of(head.membership.ok_or(RecordError::Incomplete("a membership"))?)?;
    let id = |record: PointRecord| log_id(record.into());
    Ok(SnapshotMeta {
        last_log_id: head.last.map(id),
        last_membership: StoredMembership::new(head.membership_at.map(id), membership),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(payload: EntryPayload<Proposal, u64, BasicNode>) {
        let entry = Entry::new(log_id(LogPoint { term: 3, index: 9 }), payload);
        assert_eq!(decode_entry(encode_entry(entry.clone())).unwrap(), entry);
    }

    fn joint() -> Membership {
        let member = |id| (id, BasicNode { addr: format!("10.0.0.{id}:7000") });
        let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        Membership::new(configs, (1..=5).map(member).collect::<BTreeMap<_, _>>()).unwrap()
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was_written() {
        there_and_back(EntryPayload::Blank);
        there_and_back(EntryPayload::Normal(Proposal(Bytes::new())));
        there_and_back(EntryPayload::Normal(Proposal(Bytes::from_static(b"\x00\xff command"))));
        there_and_back(EntryPayload::Membership(joint()));
    }

    #[test]
    fn a_snapshot_head_keeps_position_and_membership() {
        let at = |index| log_id(LogPoint { term: 2, index });
        let meta =
            SnapshotMeta { last_log_id: Some(at(40)), last_membership: StoredMembership::new(Some(at(7)), joint()) };
        assert_eq!(decode_head(&encode_head(&meta)).unwrap(), meta);
        let empty = SnapshotMeta::default();
        assert_eq!(decode_head(&encode_head(&empty)).unwrap(), empty);
    }

    #[test]
    fn an_entry_of_a_newer_format_or_without_body_is_refused() {
        let point = LogPoint { term: 1, index: 1 };
        let refuse =
            |record: EntryRecord| decode_entry(Record { point, payload: record.encode_to_vec().into() }).unwrap_err();
        let newer = EntryRecord { format: 2, body: Some(Body::Blank(BlankRecord {})) };
        assert!(matches!(refuse(newer), RecordError::Newer { found: 2 }));
        assert!(matches!(refuse(EntryRecord { format: 1, body: None }), RecordError::Incomplete("a body")));
        assert!(matches!(refuse(EntryRecord::default()), RecordError::Incomplete("a format")));
    }

    #[test]
    fn the_overhead_of_an_entry_stays_under_its_bound() {
        let entry = |bytes: usize| {
            let proposal = Proposal(vec![1; bytes].into());
            encode_entry(Entry::new(log_id(LogPoint { term: 1, index: 1 }), EntryPayload::Normal(proposal)))
        };
        for bytes in [0, 1, 127, 128, 1 << 20] {
            assert!(entry(bytes).payload.len() <= bytes + ENTRY_OVERHEAD_BYTES);
        }
    }
}
