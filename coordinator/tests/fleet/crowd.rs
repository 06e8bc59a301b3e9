//! Too many, too slow, too large, nonsense, guesses and replays: the coordinator stays up, answers others, and says why it refuses.

use std::time::Duration;

use flowyard_cas::{Origin, digest_bytes};
use flowyard_identity::{
    ApiToken, Authority, Clock, Credential, Current, KeyRequest, NODE_LIFE_MS, Order, Secret, Subject, Trust, introduce,
};
use flowyard_model::{Epoch, Revision, TimeMs};
use flowyard_proto::api::flowyard_client::FlowyardClient;
use flowyard_proto::api::{self, GetClusterRequest, ListJobsRequest};
use flowyard_proto::blob::blobs_client::BlobsClient;
use flowyard_proto::cluster::RevokeRequest;
use flowyard_proto::peer::{self, RoleKind};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;

use crate::closed::{alone, whole};
use crate::house::{Host, Shown, to_call, until};
use crate::parts::{Agent, job, let_in, manifest, upload};

/// Raises the limit of open files of this process to what it may be.
fn raise_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// A connection from another address of this machine.
async fn from_elsewhere(address: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let connected = tokio::time::timeout(Duration::from_secs(5), socket.connect(address.parse().unwrap())).await;
    connected.ok()?.ok()
}

/// So many strangers at once, of which most say nothing and some finish their handshake and then say nothing.
async fn storm(silent: usize, shaken: usize) {
    raise_files();
    let host = alone().await;
    let token = host.token(to_call("ann", RoleKind::Viewer, &[])).await;
    let authority = host.trust().fingerprint();
    let before = resident_bytes();
    let mut quiet = Vec::new();
    for batch in 0..silent.div_ceil(100) {
        let some = (0..100.min(silent - batch * 100)).map(|_| from_elsewhere(&host.address.api));
        quiet.extend(futures::future::join_all(some).await.into_iter().flatten());
    }
    let mut known = Vec::new();
    for _ in 0..shaken {
        known.extend(introduce(&host.address.api, authority, Clock::wall()).await.ok());
        if known.len() % 50 == 0 {
            host.api(Some(&token)).list_jobs(ListJobsRequest::default()).await.expect("others are answered meanwhile");
        }
    }
    assert!(quiet.len() + known.len() > (silent + shaken) / 2, "{} and {}", quiet.len(), known.len());
    for _ in 0..5 {
        host.api(Some(&token)).list_jobs(ListJobsRequest::default()).await.expect("others are answered");
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 600 << 20, "{} MiB for {silent} and {shaken} strangers", grown >> 20);
}

/// Two thousand, or as many as `cargo xtask storm` asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_strangers_keeps_nobody_out() {
    let asked = std::env::var("FLOWYARD_STORM").ok().and_then(|text| text.parse().ok());
    let all: usize = asked.unwrap_or(2_000);
    storm(all - all / 5, all / 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_nonsense_is_refused_and_others_are_answered() {
    let host = alone().await;
    let token = host.token(to_call("ann", RoleKind::Admin, &[])).await;
    // Of a stranger only a little is read, and nothing of a call that is not for strangers.
    let large = vec![0x0a; 70 * 1_024];
    let (code, why) = whole(&host, None, "/flowyard.cluster.v1.Entrance/Join", large.clone()).await;
    assert!(code == Code::OutOfRange as i32 && why.contains("message length too large"), "{code} {why}");
    let (code, _) = whole(&host, None, "/flowyard.agent.v1.Agents/Session", large).await;
    assert_eq!(code, Code::Unauthenticated as i32);
    // A person is told at once that a session is not for them, however much they would like to say in it.
    let (code, why) = whole(&host, Some(&token), "/flowyard.agent.v1.Agents/Session", vec![0; 1 << 20]).await;
    assert!(code == Code::PermissionDenied as i32, "{code} {why}");
    let (code, why) = whole(&host, Some(&token), "/flowyard.api.v1.Flowyard/Submit", vec![0; 9 << 20]).await;
    assert!(code == Code::OutOfRange as i32, "{code} {why}");
    let (code, why) = whole(&host, Some(&token), "/flowyard.api.v1.Flowyard/GetJob", vec![0xff; 64]).await;
    assert!(code == Code::Internal as i32 && why.contains("decode"), "{code} {why}");
    let (code, _) = whole(&host, Some(&token), "/flowyard.api.v1.Flowyard/NoSuchCall", vec![]).await;
    assert_eq!(code, Code::Unimplemented as i32);
    let headers = vec![("x-long".to_owned(), "x".repeat(200 * 1_024))];
    let mut request = tonic::Request::new(GetClusterRequest {});
    for (name, value) in headers {
        let name = tonic::metadata::MetadataKey::from_bytes(name.as_bytes()).unwrap();
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    host.api(Some(&token)).get_cluster(request).await.unwrap_err();
    // Bytes that are no TLS, and TLS with bytes in it that are no HTTP/2.
    let mut raw = TcpStream::connect(&host.address.api).await.unwrap();
    raw.write_all(&[0x16; 4_096]).await.unwrap();
    let mut inside = introduce(&host.address.api, host.trust().fingerprint(), Clock::wall()).await.unwrap().stream;
    let _ = inside.write_all(&[0x16; 4_096]).await;
    host.api(Some(&token)).list_jobs(ListJobsRequest::default()).await.expect("others are answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_tokens_is_answered_more_and_more_slowly() {
    let host = alone().await;
    let good = host.token(to_call("ann", RoleKind::Viewer, &[])).await;
    let known: ApiToken = good.parse().unwrap();
    let begun = flowyard_clock::monotonic();
    for _ in 0..8 {
        let guess = ApiToken { secret: Secret::random(), ..known.clone() }.to_text();
        let refused = host.api(Some(&guess)).list_jobs(ListJobsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains("this token is not known here"), "{refused}");
    }
    // Five at once, then waits of 100, 200 and 400 ms.
    assert!(flowyard_clock::elapsed(begun) >= Duration::from_millis(700), "{:?}", flowyard_clock::elapsed(begun));
    host.api(Some(&good)).list_jobs(ListJobsRequest::default()).await.expect("who does not guess is answered");
}

/// One person calls as fast as the coordinator answers until it refuses; others do not notice, and who waits as long as was said is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_person_is_told_when_to_call_again_and_others_are_answered() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Viewer, &[])).await;
    let bob = host.token(to_call("bob", RoleKind::Viewer, &[])).await;
    let (anns, bobs) = (host.api(Some(&ann)), host.api(Some(&bob)));
    let ask = async |api: &FlowyardClient<Shown>| api.clone().list_jobs(ListJobsRequest::default()).await.map(drop);
    let (mut refused, mut answered) = (None, 0_usize);
    while refused.is_none() && answered < 200_000 {
        let answers = futures::future::join_all((0..200).map(|_| ask(&anns))).await;
        answered += answers.iter().filter(|answer| answer.is_ok()).count();
        refused = answers.into_iter().find_map(Result::err);
    }
    let refused = refused.expect("nobody may call so often");
    assert!(answered >= 2_000, "as many as one may have at once were answered: {answered}");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("ann calls more often than one may over time"), "{refused}");
    let wait = flowyard_proto::status::wait_asked_for(&refused).expect("it says when to call again");
    assert!(wait <= Duration::from_secs(2), "{wait:?}");
    for _ in 0..50 {
        ask(&bobs).await.expect("others are answered");
    }
    tokio::time::sleep(wait + Duration::from_secs(1)).await;
    ask(&anns).await.expect("whoever waits is answered");
}

/// A certificate of the node n1 that this authority issued so long ago.
fn certificate(authority: &Authority, age_ms: u64) -> Current {
    let key = KeyRequest::generate().unwrap();
    let now = TimeMs(flowyard_clock::wall_ms() - age_ms);
    let subject = Subject::Agent { name: "n1".parse().unwrap() };
    let order = Order { subject, epoch: Epoch(0), revision: Revision(1), now, life_ms: NODE_LIFE_MS };
    let issued = authority.issue(key.bytes(), &order).unwrap();
    let trust = Trust::new(authority.certificate().clone(), Epoch(0), Clock::of(move || now), |_| false).unwrap();
    Current::new(Credential::new(&key, issued.chain, &trust).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_foreign_expired_or_revoked_open_nothing() {
    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    let (host, other) = (alone().await, Host::first(Origin::in_memory()).await);
    let authority = |host: &Host| Authority::load(&host.folder.path().join("authority.pem")).unwrap();
    let ask = async |own: Current| {
        let mut api = api::flowyard_client::FlowyardClient::new(host.channel(Some(own)));
        api.get_cluster(GetClusterRequest {}).await
    };
    ask(certificate(&authority(&host), 0)).await.expect("one of its own");
    ask(certificate(&authority(&other), 0)).await.unwrap_err();
    ask(certificate(&authority(&host), 40 * DAY_MS)).await.unwrap_err();
    let lapsed = ask(certificate(&authority(&host), 5 * DAY_MS)).await.unwrap_err();
    assert!(lapsed.message().contains("has expired and may only be renewed"), "{lapsed}");
    let identity = peer::Identity { kind: Some(peer::identity::Kind::Agent("n1".to_owned())) };
    host.owner().revoke(RevokeRequest { identity: Some(identity) }).await.unwrap();
    let revoked = ask(certificate(&authority(&host), 0)).await.unwrap_err();
    // The handshake ends with an alert, or the first call with the reason, as each side is quicker.
    assert_ne!(revoked.code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_in_a_session_says_nothing_again_or_for_another() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let id = host.api(Some(&ann)).submit(job("default", None)).await.unwrap().into_inner().job;
    let mut n1 = Agent::connect(&host, let_in(&host, "n1").await, "n1").await.unwrap();
    let member = n1.next_member().await;
    let state = async || {
        let job = host.api(Some(&ann)).get_job(api::GetJobRequest { job: id }).await.unwrap().into_inner();
        job.row.unwrap().state()
    };
    // Another node says it for n1, as itself and as n1.
    let own = let_in(&host, "n2").await;
    let foreign = Agent::connect(&host, own.clone(), "n1").await.map(drop).unwrap_err();
    assert!(foreign.message().contains("agent n2 may not speak for node n1"), "{foreign}");
    let mut n2 = Agent::connect(&host, own.clone(), "n2").await.unwrap();
    let (bytes, lists) = (b"out".to_vec(), manifest(digest_bytes(b"out")));
    BlobsClient::new(host.channel(Some(own))).put(upload(&[&bytes, &lists])).await.unwrap();
    n2.succeed(member, digest_bytes(&lists), None).await;
    n2.acknowledged().await;
    assert_eq!(state().await, api::JobPhase::Active, "n2 ended what runs on n1");
    // What n1 says ends it; the same said again changes nothing, nor does the opposite.
    BlobsClient::new(host.channel(Some(n1.own.clone()))).put(upload(&[&bytes, &lists])).await.unwrap();
    n1.succeed(member, digest_bytes(&lists), None).await;
    n1.acknowledged().await;
    assert_eq!(state().await, api::JobPhase::Succeeded);
    let revision = host.coordinator().shared().feed.view().job(flowyard_model::JobId(id)).map(|job| (*job).clone());
    n1.say_again().await;
    let ended = n1.ended().await;
    assert!(ended.message().contains("say everything anew"), "{ended}");
    assert_eq!(
        host.coordinator().shared().feed.view().job(flowyard_model::JobId(id)).map(|job| (*job).clone()),
        revision
    );
    until("it to be as it was", async || state().await == api::JobPhase::Succeeded).await;
}
