//! Blobs of a fleet without a store of its own: what one coordinator lacks another has, and who stored what is known to all.

use flowyard_cas::{Manifest, digest_bytes};
use flowyard_model::Digest;
use flowyard_proto::api;
use flowyard_proto::blob::PutRequest;
use flowyard_proto::peer::{Joiner, RoleKind};
use flowyard_proto::status::{NOT_STORED, rejection_kind};

use crate::house::{Host, three, to_call, to_join, until};

pub(crate) fn put(bytes: &[u8]) -> impl tokio_stream::Stream<Item = PutRequest> + use<> {
    let digest = Some(digest_bytes(bytes).into());
    tokio_stream::iter([PutRequest { digest, bytes: bytes.to_vec().into() }])
}

/// A job of one step whose code is this blob.
pub(crate) fn job(code: Digest) -> api::SubmitRequest {
    let step = api::StepSpec {
        name: "a".to_owned(),
        command: vec!["true".to_owned()],
        image: Some(api::Image { kind: Some(api::image::Kind::Host(api::image::Host {})) }),
        isolation: api::Isolation::Container.into(),
        code: Some(code.into()),
        fan_out: Some(api::FanOut { kind: Some(api::fan_out::Kind::Single(api::fan_out::Single {})) }),
        resources: Some(api::Resources { cpu_milli: 1_000, memory_bytes: 1 << 20, ..Default::default() }),
        size: 1,
        retry: Some(api::Retry::default()),
        on_failure: api::OnFailure::Stop.into(),
        network: api::NetworkMode::Host.into(),
        on_disconnect: api::OnDisconnect::Keep.into(),
        ..Default::default()
    };
    let spec =
        api::JobSpec { name: "job".to_owned(), queue: "default".to_owned(), steps: vec![step], ..Default::default() };
    api::SubmitRequest { spec: Some(spec), key: None }
}

/// An artifact without files.
pub(crate) fn empty_artifact() -> Vec<u8> {
    Manifest::from_entries(vec![]).unwrap().encode()
}

async fn submitter(host: &Host) -> String {
    host.token(to_call("sue", RoleKind::Submitter, &["default"])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_uploaded_to_one_coordinator_may_be_used_at_each_and_what_one_lacks_is_brought() {
    let hosts = three().await;
    let (sue, eve) =
        (submitter(&hosts[0]).await, hosts[0].token(to_call("eve", RoleKind::Submitter, &["default"])).await);
    let bytes = empty_artifact();
    let code = digest_bytes(&bytes);
    hosts[0].blobs(&sue).put(put(&bytes)).await.unwrap();
    // Knowing its name is still no right to it, and the refusal says what mends it.
    let refused = hosts[1].api(Some(&eve)).submit(job(code)).await.unwrap_err();
    assert_eq!(rejection_kind(&refused), Some(NOT_STORED), "{refused}");
    // The copies of two coordinators are damaged: they lack it, and bring it from the one that has it.
    for host in &hosts[1..] {
        host.origin.delete(&code).await.unwrap();
        host.api(Some(&sue)).submit(job(code)).await.expect("it was uploaded to another coordinator");
        assert!(host.origin.contains(&code).await.unwrap(), "it was brought");
    }
    let nowhere = hosts[1].api(Some(&sue)).submit(job(digest_bytes(b"nobody has it"))).await.unwrap_err();
    assert_eq!(rejection_kind(&nowhere), Some(NOT_STORED), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_begins_to_vote_has_copied_what_is_stored() {
    let first = Host::first(flowyard_cas::Origin::in_memory()).await;
    until("it to lead", async || first.leads()).await;
    let admin = first.token(to_call("ann", RoleKind::Admin, &[])).await;
    let code = digest_bytes(&empty_artifact());
    first.blobs(&admin).put(put(&empty_artifact())).await.unwrap();
    first.api(Some(&admin)).submit(job(code)).await.unwrap();
    let token = first.token(to_join(Joiner::Coordinator)).await;
    let mut second = Host::joining(&token, flowyard_cas::Origin::in_memory()).await;
    second.start().await;
    until("it to vote", async || first.status().await.members.iter().filter(|member| member.votes).count() == 2).await;
    assert!(second.origin.contains(&code).await.unwrap(), "half of the voters lack what counts as stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_no_honest_caller_sends_are_refused_and_harm_nobody() {
    use crate::node;
    use tonic::Code;
    let host = Host::first(flowyard_cas::Origin::in_memory()).await;
    until("it to lead", async || host.leads()).await;
    let own = node::join(&host, "n1").await;
    let before = node::begin(&host, &own, "n1", None).await.unwrap().welcome;
    let refused = node::begin(&host, &own, "n1", Some((before.node, u64::MAX))).await.err().expect("it is refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("previous_incarnation"), "{refused}");
    let huge = api::Inventory { cpu_milli: u64::MAX, memory_bytes: u64::MAX, ..node::inventory() };
    let hello = flowyard_proto::agent::Hello { name: "n1".to_owned(), inventory: Some(huge), ..Default::default() };
    let refused = node::say_hello(&host, &own, hello).await.err().expect("it is refused");
    assert!(refused.message().contains("inventory.cpu_milli"), "{refused}");
    let sue = submitter(&host).await;
    let giant = Digest { length: u64::MAX, ..digest_bytes(b"") };
    let begin = PutRequest { digest: Some(giant.into()), bytes: vec![1].into() };
    let refused = host.blobs(&sue).put(tokio_stream::iter([begin])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = host.api(Some(&sue)).submit(job(giant)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let lives = node::begin(&host, &own, "n1", Some((before.node, before.incarnation))).await.unwrap().welcome;
    assert_eq!((lives.node, lives.incarnation), (before.node, before.incarnation + 1));
}
