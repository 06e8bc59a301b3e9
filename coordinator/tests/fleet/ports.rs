//! What those who know the protocols do to the ports: speak for a coordinator without being one, and use HTTP/2 to make work for nothing.

use std::time::Duration;

use flowyard_cas::Origin;
use flowyard_identity::{
    Authority, Clock, Connector, Credential, Current, KeyRequest, NODE_LIFE_MS, Order, Subject, Trust, introduce,
};
use flowyard_model::{Epoch, ReplicaId, Revision, TimeMs};
use flowyard_proto::api::ListJobsRequest;
use flowyard_proto::cluster::RevokeRequest;
use flowyard_proto::peer::raft_client::RaftClient;
use flowyard_proto::peer::{self, RoleKind, VoteRequest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::closed::alone;
use crate::house::{Host, to_call};
use crate::parts::let_in;

const DAY_MS: u64 = 24 * 3_600 * 1_000;

fn authority(host: &Host) -> Authority {
    Authority::load(&host.folder.path().join("authority.pem")).unwrap()
}

/// What this authority gave a coordinator of this number so long ago.
fn coordinator(authority: &Authority, replica: u64, age_ms: u64) -> Current {
    let key = KeyRequest::generate().unwrap();
    let now = TimeMs(flowyard_clock::wall_ms() - age_ms);
    let subject = Subject::Coordinator { replica: ReplicaId(replica) };
    let order = Order { subject, epoch: Epoch(0), revision: Revision(1), now, life_ms: NODE_LIFE_MS };
    let issued = authority.issue(key.bytes(), &order).unwrap();
    let trust = Trust::new(authority.certificate().clone(), Epoch(0), Clock::of(move || now), |_| false).unwrap();
    Current::new(Credential::new(&key, issued.chain, &trust).unwrap())
}

/// The port of coordinators, for somebody.
fn peers(host: &Host, own: Option<Current>) -> RaftClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", host.address.peers)).unwrap();
    RaftClient::new(endpoint.connect_with_connector_lazy(Connector::new(host.trust(), own)))
}

/// A candidate that has seen a later term than anybody.
fn vote(host: &Host, from: u64) -> VoteRequest {
    let cluster = host.identity.cluster.as_bytes().to_vec().into();
    let envelope = peer::Envelope { cluster, epoch: 0, from, to: host.identity.replica };
    VoteRequest {
        envelope: Some(envelope),
        vote: Some(peer::Ballot { term: 99, candidate: from, granted: false }),
        last: Some(peer::LogPoint { term: 98, index: 1_000_000 }),
        leadership_transfer: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_of_coordinators_hears_nobody_else_and_no_coordinator_for_another() {
    let (host, other) = (alone().await, Host::first(Origin::in_memory()).await);
    let term = host.status().await.term;
    let one = host.identity.replica;
    let (ours, theirs) = (authority(&host), authority(&other));
    let strangers = [
        ("nobody", None),
        ("a node", Some(let_in(&host, "n1").await)),
        ("a coordinator of another cluster", Some(coordinator(&theirs, one, 0))),
        ("one that expired", Some(coordinator(&ours, 9, 40 * DAY_MS))),
        ("one that lapsed and may renew itself", Some(coordinator(&ours, 9, 5 * DAY_MS))),
    ];
    for (who, own) in strangers {
        for from in [2, 9] {
            let refused = peers(&host, own.clone()).vote(vote(&host, from)).await.map(drop).unwrap_err();
            assert_ne!(refused.code(), Code::Ok, "{who}: {refused}");
        }
    }
    let nine = coordinator(&ours, 9, 0);
    let refused = peers(&host, Some(nine.clone())).vote(vote(&host, 2)).await.unwrap_err();
    assert!(refused.message().contains("replica 9 cannot speak for replica 2"), "{refused}");
    let identity = peer::Identity { kind: Some(peer::identity::Kind::Coordinator(9)) };
    host.owner().revoke(RevokeRequest { identity: Some(identity) }).await.unwrap();
    let refused = peers(&host, Some(nine)).vote(vote(&host, 9)).await.map(drop).unwrap_err();
    assert_ne!(refused.code(), Code::Ok, "it was shut out: {refused}");
    assert!(host.leads());
    assert_eq!(host.status().await.term, term, "nobody made it stand back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_nonsense_between_coordinators_is_refused_too() {
    let host = alone().await;
    let nine = coordinator(&authority(&host), 9, 0);
    let envelope = vote(&host, 9).envelope;
    let entry = peer::RaftEntry { at: Some(peer::LogPoint { term: 98, index: 1 }), record: vec![0; 17 << 20].into() };
    let entries = |entries| peer::AppendRequest {
        envelope: envelope.clone(),
        vote: Some(peer::Ballot { term: 99, candidate: 9, granted: true }),
        previous: None,
        entries,
        committed: None,
    };
    let mut client = peers(&host, Some(nine)).max_encoding_message_size(64 << 20);
    let large = client.append_entries(entries(vec![entry])).await.unwrap_err();
    assert!(large.code() == Code::OutOfRange && large.message().contains("too large"), "{large}");
    let nonsense = peer::RaftEntry { at: None, record: vec![0xff; 64].into() };
    let refused = client.append_entries(entries(vec![nonsense])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(host.leads(), "what was refused is not believed in part");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// `POST / HTTP/2` in few bytes: pairs that every table of headers has, and a short name.
const POST: [u8; 6] = [0x83, 0x87, 0x84, 0x01, 0x01, b'c'];
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// Writes the same again and again, with another number each time, until the other end has had enough; whether it said so.
async fn weary(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static,
) -> bool {
    // Both at once: whoever is not read from may not hang up.
    let (mut answers, mut requests) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        let mut sent = requests.write_all(&preface).await;
        for number in 0..200_000 {
            if sent.is_err() {
                break;
            }
            sent = requests.write_all(&next(number)).await;
        }
    });
    let mut said = Vec::new();
    // It may hang up without waiting for what is still on its way.
    let ended = tokio::time::timeout(Duration::from_secs(60), answers.read_to_end(&mut said)).await;
    writing.abort();
    let (mut rest, mut went_away) = (said.as_slice(), false);
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        went_away |= rest[3] == GO_AWAY;
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    ended.is_ok() && went_away
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_makes_work_for_nothing_is_hung_up_on_and_others_are_answered() {
    let host = alone().await;
    let token = host.token(to_call("ann", RoleKind::Viewer, &[])).await;
    let open = async || introduce(&host.address.api, host.trust().fingerprint(), Clock::wall()).await.unwrap().stream;
    // Calls that are taken back as soon as they are made.
    let resets = weary(open().await, |number| {
        let stream = 1 + 2 * number;
        [frame(HEADERS, 0x5, stream, &POST), frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    // Headers without an end.
    let endless = weary(open().await, |number| match number {
        0 => frame(HEADERS, 0, 1, &POST),
        _ => frame(CONTINUATION, 0, 1, &[&[0x00, 0x01, b'x', 0x7f, 0xc1, 0x01][..], &[b'y'; 320]].concat()),
    });
    let (resets, endless) = tokio::join!(resets, endless);
    assert!(resets, "calls were made and taken back without end");
    assert!(endless, "headers went on without end");
    host.api(Some(&token)).list_jobs(ListJobsRequest::default()).await.expect("others are answered");
}
