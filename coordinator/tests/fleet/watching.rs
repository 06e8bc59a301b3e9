//! Watches that go on at another coordinator.

use std::time::Duration;

use flowyard_cas::digest_bytes;
use flowyard_proto::api::{CancelRequest, SubmitRequest, WatchJobRequest, WatchJobResponse};
use flowyard_proto::peer::RoleKind;

use crate::house::{Host, three, to_call};
use crate::storing::{empty_artifact, job, put};

async fn watch(
    host: &Host,
    token: &str,
    job: u64,
    last: Option<&WatchJobResponse>,
) -> tonic::Streaming<WatchJobResponse> {
    let (after_revision, after_epoch) = (last.map(|last| last.revision), last.map_or(0, |last| last.epoch));
    let request = WatchJobRequest { job, after_revision, after_epoch };
    host.api(Some(token)).watch_job(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_at_another_coordinator_without_telling_anything_twice_or_missing_the_end() {
    let hosts = three().await;
    let admin = hosts[0].token(to_call("ann", RoleKind::Admin, &[])).await;
    let code = empty_artifact();
    hosts[0].blobs(&admin).put(put(&code)).await.unwrap();
    let request: SubmitRequest = job(digest_bytes(&code));
    let id = hosts[0].api(Some(&admin)).submit(request).await.unwrap().into_inner().job;
    let first = watch(&hosts[0], &admin, id, None).await.message().await.unwrap().unwrap();
    assert!(first.revision > 0 && !first.resynchronised);
    // Nothing has changed: at another coordinator nothing is told, and then only the change.
    let mut second = watch(&hosts[1], &admin, id, Some(&first)).await;
    let nothing = tokio::time::timeout(Duration::from_millis(300), second.message()).await;
    assert!(nothing.is_err(), "told again: {nothing:?}");
    hosts[2].api(Some(&admin)).cancel(CancelRequest { job: id }).await.unwrap();
    let ended = second.message().await.unwrap().unwrap();
    assert!(ended.revision > first.revision && !ended.resynchronised);
    assert!(ended.job.as_ref().unwrap().row.as_ref().unwrap().ended_ms.is_some());
    assert!(second.message().await.unwrap().is_none(), "a watch ends with its job");
    // One that was lost before the end is told of it wherever it goes on; one that has seen it is told nothing more.
    let third = watch(&hosts[2], &admin, id, Some(&first)).await.message().await.unwrap().unwrap();
    assert_eq!((third.revision >= ended.revision, third.resynchronised), (true, false));
    assert!(watch(&hosts[0], &admin, id, Some(&third)).await.message().await.unwrap().is_none());
    let elsewhere = WatchJobResponse { epoch: 7, ..first };
    let all = watch(&hosts[1], &admin, id, Some(&elsewhere)).await.message().await.unwrap().unwrap();
    assert!(all.resynchronised, "another epoch is another history");
}
