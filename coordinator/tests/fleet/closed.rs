//! Closed to strangers and to members that lie: who was shut out stays out, whatever they had begun; nobody gains a right by naming
//! something.

use flowyard_cas::{Origin, digest_bytes};
use flowyard_identity::{JoinToken, KeyRequest};
use flowyard_proto::api::{self, GetClusterRequest, WatchJobRequest};
use flowyard_proto::blob::blobs_client::BlobsClient;
use flowyard_proto::blob::{GetRequest, PutRequest};
use flowyard_proto::cluster::entrance_client::EntranceClient;
use flowyard_proto::cluster::{ListTokensRequest, RevokeRequest, RevokeTokenRequest};
use flowyard_proto::peer::{self, Joiner, RoleKind};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::house::{Host, three, to_call, to_join, until};
use crate::parts::{Agent, credential, job, joins, let_in, manifest, upload};

/// A coordinator alone, that leads.
pub(crate) async fn alone() -> Host {
    let host = Host::first(Origin::in_memory()).await;
    until("it to lead", async || host.leads()).await;
    host
}

async fn revoke_agent(host: &Host, name: &str) {
    let identity = peer::Identity { kind: Some(peer::identity::Kind::Agent(name.to_owned())) };
    host.owner().revoke(RevokeRequest { identity: Some(identity) }).await.unwrap();
}

/// Takes back the newest token.
async fn revoke_newest_token(host: &Host) {
    let tokens = host.owner().list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
    let token = tokens.iter().map(|token| token.token).max().unwrap();
    host.owner().revoke_token(RevokeTokenRequest { token }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_one_node_and_who_was_shut_out_comes_back_with_a_new_token_only() {
    let host = alone().await;
    let token: JoinToken = host.token(to_join(Joiner::Agent)).await.parse().unwrap();
    let (key, mut entrance) = (KeyRequest::generate().unwrap(), EntranceClient::new(host.channel(None)));
    entrance.join(joins(&token, &key, "n1")).await.unwrap();
    entrance.join(joins(&token, &key, "n1")).await.expect("an answer that was lost is given again");
    let other = entrance.join(joins(&token, &key, "n2")).await.unwrap_err();
    assert!(other.message().contains("let this key in under another name"), "{other}");
    revoke_agent(&host, "n1").await;
    let out = entrance.join(joins(&token, &key, "n1")).await.unwrap_err();
    assert!(out.message().contains("is older than the revocation"), "{out}");
    let new: JoinToken = host.token(to_join(Joiner::Agent)).await.parse().unwrap();
    let answer = entrance.join(joins(&new, &key, "n1")).await.expect("an operator lets it in anew").into_inner();
    let mut api = api::flowyard_client::FlowyardClient::new(host.channel(Some(credential(&host, &key, &answer))));
    api.get_cluster(GetClusterRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_outlives_the_right_to_send_it_is_not_stored() {
    let host = alone().await;
    let token = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let (bytes, (parts, said)) = (b"late".to_vec(), mpsc::channel(4));
    let digest = digest_bytes(&bytes);
    let mut blobs = host.blobs(&token);
    let sending = tokio::spawn(async move { blobs.put(ReceiverStream::new(said)).await });
    let first = PutRequest { digest: Some(digest.into()), bytes: bytes[..2].to_vec().into() };
    parts.send(first).await.unwrap();
    revoke_newest_token(&host).await;
    // The rest may find the stream ended already; the refusal is what counts.
    let _ = parts.send(PutRequest { digest: None, bytes: bytes[2..].to_vec().into() }).await;
    drop(parts);
    let refused = sending.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(!host.origin.contains(&digest).await.unwrap(), "it was stored all the same");
}

/// A call with these bytes as its request; what it is answered with.
pub(crate) async fn whole(host: &Host, token: Option<&str>, path: &'static str, message: Vec<u8>) -> (i32, String) {
    let (say, go) = tokio::sync::oneshot::channel();
    let _ = say.send(());
    dripped(host, token, path, message, go).await
}

/// A call whose request is sent in two parts, with the second one when it is told to.
async fn dripped(
    host: &Host,
    token: Option<&str>,
    path: &'static str,
    message: Vec<u8>,
    go: tokio::sync::oneshot::Receiver<()>,
) -> (i32, String) {
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let rest = framed.split_off(5);
    let parts = futures::stream::once(async move { framed })
        .chain(futures::stream::once(async move {
            let _ = go.await;
            rest
        }))
        .map(|part| Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from(part))));
    let request = http::Request::post(format!("http://c{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(http_body_util::StreamBody::new(parts)));
    let mut request = request.unwrap();
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let mut channel = host.channel(None);
    futures::future::poll_fn(|context| tower::Service::poll_ready(&mut channel, context)).await.unwrap();
    let answer = tower::Service::call(&mut channel, request).await.unwrap();
    if let Some(status) = tonic::Status::from_header_map(answer.headers()) {
        return (status.code() as i32, status.message().to_owned());
    }
    let trailers = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().trailers().cloned();
    let status = trailers.and_then(|trailers| tonic::Status::from_header_map(&trailers));
    status.map_or((0, String::new()), |status| (status.code() as i32, status.message().to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_still_being_sent_is_judged_again_when_it_is_whole_also_by_the_leader() {
    let hosts = three().await;
    let leader = hosts.iter().position(Host::leads).unwrap();
    for at in [leader, (leader + 1) % 3] {
        let token = hosts[leader].token(to_call("eve", RoleKind::Admin, &[])).await;
        until("the token to be known", async || {
            hosts[at].api(Some(&token)).get_cluster(GetClusterRequest {}).await.is_ok()
        })
        .await;
        let (say, go) = tokio::sync::oneshot::channel();
        let create = flowyard_proto::cluster::CreateTokenRequest {
            grant: Some(to_call("eve2", RoleKind::Admin, &[])),
            life_ms: 60_000,
            uses: None,
        };
        let message = prost::Message::encode_to_vec(&create);
        let path = "/flowyard.cluster.v1.Administration/CreateToken";
        let (call, told) = tokio::join!(dripped(&hosts[at], Some(&token), path, message, go), async {
            // It has begun once it waits; a little later is as good.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            revoke_newest_token(&hosts[leader]).await;
            say.send(())
        });
        told.unwrap();
        assert_eq!(call.0, Code::Unauthenticated as i32, "{call:?}");
        assert!(call.1.contains("was revoked"), "{call:?}");
        let tokens = hosts[leader].owner().list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
        let made = tokens.iter().filter(|token| token.created_by == "eve").count();
        assert_eq!(made, 0, "a token was made by somebody who had been shut out");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_watched_ends_with_the_right_to_watch_it() {
    let hosts = three().await;
    let leader = hosts.iter().position(Host::leads).unwrap();
    let ann = hosts[leader].token(to_call("ann", RoleKind::Operator, &[])).await;
    let id = hosts[leader].api(Some(&ann)).submit(job("default", None)).await.unwrap().into_inner().job;
    let logs = api::LogsRequest { job: id, follow: true, ..api::LogsRequest::default() };
    for host in [&hosts[leader], &hosts[(leader + 1) % 3]] {
        let eve = hosts[leader].token(to_call("eve", RoleKind::Viewer, &[])).await;
        until("the token to be known", async || host.api(Some(&eve)).get_cluster(GetClusterRequest {}).await.is_ok())
            .await;
        let mut api = host.api(Some(&eve));
        let mut watched = api
            .watch_job(WatchJobRequest { job: id, after_revision: None, after_epoch: 0 })
            .await
            .unwrap()
            .into_inner();
        watched.message().await.unwrap().expect("the job as it is");
        let mut followed = api.logs(logs).await.unwrap().into_inner();
        revoke_newest_token(&hosts[leader]).await;
        let cut = watched.message().await.unwrap_err();
        assert!(cut.code() == Code::Unauthenticated && cut.message().contains("was revoked"), "{cut}");
        let cut = followed.message().await.unwrap_err();
        assert!(cut.code() == Code::Unauthenticated && cut.message().contains("was revoked"), "{cut}");
    }
    // An agent that is shut out is told nothing more, also if it says nothing.
    let mut agent = Agent::connect(&hosts[leader], let_in(&hosts[leader], "n1").await, "n1").await.unwrap();
    agent.next_member().await;
    revoke_agent(&hosts[leader], "n1").await;
    let cut = loop {
        match agent.told.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(cut.message().contains("agent n1 was revoked"), "{cut}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_its_token_expires() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let id = host.api(Some(&ann)).submit(job("default", None)).await.unwrap().into_inner().job;
    let eve = host.token_for(to_call("eve", RoleKind::Viewer, &[]), 1_000).await;
    let mut watched = host
        .api(Some(&eve))
        .watch_job(WatchJobRequest { job: id, after_revision: None, after_epoch: 0 })
        .await
        .unwrap()
        .into_inner();
    watched.message().await.unwrap().expect("the job as it is");
    let cut = watched.message().await.unwrap_err();
    assert!(cut.code() == Code::Unauthenticated && cut.message().contains("has expired"), "{cut}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn naming_an_artifact_gives_no_right_to_what_it_lists() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let eve = host.token(to_call("eve", RoleKind::Submitter, &["default"])).await;
    let secret = b"ann's own".to_vec();
    let foreign = digest_bytes(&secret);
    host.blobs(&ann).put(upload(&[&secret])).await.unwrap();
    // A manifest of eve's that lists what she only knows the digest of.
    let lists = manifest(foreign);
    host.blobs(&eve).put(upload(&[&lists])).await.unwrap();
    let refused = host.api(Some(&eve)).submit(job("default", Some(digest_bytes(&lists)))).await.unwrap_err();
    assert!(refused.message().contains("neither uploaded nor may read"), "{refused}");
    // With the bytes it is hers to give.
    host.blobs(&eve).put(upload(&[&secret])).await.unwrap();
    host.api(Some(&eve)).submit(job("default", Some(digest_bytes(&lists)))).await.unwrap();
    // What is no manifest is none for anybody, and does not stand in the way of the clean-up.
    let nonsense = b"FYMANIF\x01 but then nonsense".to_vec();
    host.blobs(&ann).put(upload(&[&nonsense])).await.unwrap();
    let refused = host.api(Some(&ann)).submit(job("default", Some(digest_bytes(&nonsense)))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_cannot_give_away_what_is_not_its_own() {
    let hosts = three().await;
    let leader = hosts.iter().position(Host::leads).unwrap();
    let (host, other) = (&hosts[leader], &hosts[(leader + 1) % 3]);
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let eve = host.token(to_call("eve", RoleKind::Submitter, &["default"])).await;
    let secret = b"ann's own".to_vec();
    let foreign = digest_bytes(&secret);
    host.blobs(&ann).put(upload(&[&secret])).await.unwrap();
    let id = host.api(Some(&eve)).submit(job("default", None)).await.unwrap().into_inner().job;
    let mut agent = Agent::connect(host, let_in(host, "n1").await, "n1").await.unwrap();
    // It stores with another coordinator than the one that leads, as agents may.
    let mut stores = BlobsClient::new(other.channel(Some(agent.own.clone())));
    let lists = manifest(foreign);
    stores.put(upload(&[&lists])).await.unwrap();
    let member = agent.next_member().await;
    agent.succeed(member, digest_bytes(&lists), Some(foreign)).await;
    let mut api = host.api(Some(&eve));
    let attempts = async |api: &mut api::flowyard_client::FlowyardClient<_>| {
        let tasks = api::ListTasksRequest { job: id, step: Some(0), task: Some(0), ..Default::default() };
        let tasks = api.list_tasks(tasks).await.unwrap().into_inner().tasks;
        tasks.first().map_or_else(Vec::new, |task| task.attempts.clone())
    };
    let ended = |attempts: &[api::Attempt]| attempts.first().and_then(|it| it.members.first()?.end.clone());
    until("the report", async || ended(&attempts(&mut api).await).is_some()).await;
    let end = ended(&attempts(&mut api).await).unwrap();
    assert_eq!((end.outcome(), end.blame()), (api::AttemptOutcome::Failed, api::Blame::Platform), "{end:?}");
    assert!(end.outputs.is_empty() && end.stdout.is_none(), "{end:?}");
    let read = GetRequest { digest: Some(foreign.into()), job: Some(id), ..GetRequest::default() };
    let denied = host.blobs(&eve).get(read).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    // What it stored itself it may give.
    let (own, listed) = (b"its own".to_vec(), manifest(digest_bytes(b"its own")));
    stores.put(upload(&[&own, &listed])).await.unwrap();
    let again = agent.next_member().await;
    assert_eq!(again.attempt, 2, "the task is tried again");
    agent.succeed(again, digest_bytes(&listed), None).await;
    until("the job to end", async || {
        let job = api.get_job(api::GetJobRequest { job: id }).await.unwrap().into_inner();
        job.row.is_some_and(|row| row.state() == api::JobPhase::Succeeded)
    })
    .await;
    let read = GetRequest { digest: Some(digest_bytes(&own).into()), job: Some(id), ..GetRequest::default() };
    host.blobs(&eve).get(read).await.unwrap();
}
