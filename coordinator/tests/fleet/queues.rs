//! Queues through the API: who puts, drops and sees them, that nothing is put while one is wrong, and who did it.

use flowyard_proto::api::{
    CancelRequest, DropQueueRequest, GetQueueRequest, GetUsageRequest, ListQueuesRequest, PutQueuesRequest,
    PutQueuesResponse, Queue, QueueAmounts, QueueLine,
};
use flowyard_proto::peer::RoleKind;
use tonic::{Code, Request, Status};

use crate::audit;
use crate::closed::alone;
use crate::house::{Host, three, to_call, until};
use crate::parts::{Agent, job, let_in};

fn queue(path: &str) -> Queue {
    Queue { path: path.to_owned(), weight: 1, ..Queue::default() }
}

fn cpus(count: u64) -> Option<QueueAmounts> {
    Some(QueueAmounts { cpu_milli: Some(count * 1_000), ..QueueAmounts::default() })
}

async fn put(host: &Host, token: &str, queues: Vec<Queue>) -> Result<PutQueuesResponse, Status> {
    host.api(Some(token)).put_queues(PutQueuesRequest { queues }).await.map(tonic::Response::into_inner)
}

async fn drop_queue(host: &Host, token: &str, path: &str) -> Result<(), Status> {
    host.api(Some(token)).drop_queue(DropQueueRequest { path: path.to_owned() }).await.map(drop)
}

/// The paths that a caller is shown.
async fn listed(host: &Host, token: &str) -> Vec<String> {
    let answer = host.api(Some(token)).list_queues(ListQueuesRequest {}).await.unwrap().into_inner();
    answer.queues.into_iter().map(|line| path(&line)).collect()
}

fn path(line: &QueueLine) -> String {
    line.queue.as_ref().unwrap().path.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_put_queues_and_each_sees_those_whose_jobs_they_may_look_at() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let vision = Queue { max_active: Some(4), limit: cpus(8), reserve: cpus(2), ..queue("research/vision") };
    let wished = vec![queue("research"), vision.clone(), queue("ops")];
    let first = put(&host, &ann, wished.clone()).await.unwrap();
    assert!(first.refused.is_none() && first.changes.iter().all(|change| change.before.is_none()), "{first:?}");
    assert_eq!(first.changes.iter().filter_map(|change| change.after.clone()).collect::<Vec<_>>(), wished);
    // What is as it should be is not put again; what is put again is put as a whole.
    let revision = host.coordinator().shared().feed.view().revision();
    put(&host, &ann, wished.clone()).await.unwrap();
    assert_eq!(host.coordinator().shared().feed.view().revision(), revision, "nothing entered the log");
    let again = put(&host, &ann, vec![queue("research/vision")]).await.unwrap();
    assert_eq!(again.changes[0].before, Some(vision));
    assert_eq!(again.changes[0].after, Some(queue("research/vision")));

    let eve = host.token(to_call("eve", RoleKind::Submitter, &["research/vision"])).await;
    let vic = host.token(to_call("vic", RoleKind::Viewer, &[])).await;
    assert_eq!(listed(&host, &eve).await, ["research/vision"]);
    assert_eq!(listed(&host, &vic).await, ["default", "ops", "research", "research/vision"]);
    let get = async |token: &str, path: &str| {
        host.api(Some(token)).get_queue(GetQueueRequest { path: path.to_owned() }).await.map(|it| it.into_inner())
    };
    let shown = get(&vic, "research/vision").await.unwrap();
    assert_eq!(shown.above.iter().map(path).collect::<Vec<_>>(), ["research"]);
    assert!(get(&eve, "research/vision").await.unwrap().above.is_empty(), "it is not hers to look at");
    let denied = get(&eve, "ops").await.unwrap_err();
    let said =
        "eve (submitter to research/vision) may not look at queue `ops`; a viewer or a submitter to its queue may";
    assert_eq!((denied.code(), denied.message()), (Code::PermissionDenied, said));
    for token in [&eve, &vic] {
        let denied = put(&host, token, vec![queue("research/vision/mine")]).await.unwrap_err();
        assert!(denied.message().ends_with("may not change queues; an operator may"), "{denied}");
        assert_eq!(drop_queue(&host, token, "research/vision").await.unwrap_err().code(), Code::PermissionDenied);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_put_while_one_of_the_queues_is_wrong() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let model =
        |name: &str| Some(QueueAmounts { gpu_model_milli: [(name.to_owned(), 1)].into(), ..QueueAmounts::default() });
    let wrong: [(Queue, &str); 9] = [
        (Queue { weight: 0, ..queue("b") }, "queues[1].weight: missing"),
        (Queue { weight: u32::MAX, ..queue("b") }, "queue.b.weight: a whole number from 1 to 1000000"),
        (Queue { max_active: Some(0), ..queue("b") }, "queue.b.max_active: at least 1"),
        (queue("b//c"), "queues[1].path: part 2 of a queue path"),
        (queue("a"), "queues[1]: given twice"),
        (Queue { reserve: cpus(3), limit: cpus(2), ..queue("b") }, "queue.b.reserve.cpu: the reserve of 3 is above"),
        (Queue { lend: cpus(1), ..queue("b") }, "queue.b.lend.cpu: only what is reserved is lent"),
        (Queue { limit: cpus(u64::MAX / 1_000), ..queue("b") }, "is too much; at most 1000000000"),
        (Queue { limit: model("a\u{1b}[31m"), ..queue("b") }, "queue.b.limit.gpu: a model has 1 to 256 bytes"),
    ];
    for (queue_b, said) in wrong {
        let refused = put(&host, &ann, vec![queue("a"), queue_b, queue("c")]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(said), "{refused}\nlacks\n{said}");
    }
    // What only shows when all of them are put.
    let promised = vec![Queue { reserve: cpus(2), ..queue("a") }, Queue { reserve: cpus(3), ..queue("a/b") }];
    let refused = put(&host, &ann, promised).await.unwrap_err();
    let said = "the queues directly below `a` would be promised 3 of cpu together, but the reserve of `a` is 2";
    assert!(refused.message().contains(said), "{refused}");
    let many = (0..1_001).map(|at| queue(&format!("q{at}"))).collect();
    let refused = put(&host, &ann, many).await.unwrap_err();
    assert!(refused.message().contains("queues: at most 1000, these are 1001"), "{refused}");
    assert_eq!(listed(&host, &ann).await, ["default"], "something was put");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_dropped_when_no_job_is_in_it_and_errors_say_what_there_is() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    put(&host, &ann, vec![queue("research"), queue("research/vision")]).await.unwrap();
    let id = host.api(Some(&ann)).submit(job("research", None)).await.unwrap().into_inner().job;
    let lines = host.api(Some(&ann)).list_queues(ListQueuesRequest {}).await.unwrap().into_inner().queues;
    let jobs: Vec<_> = lines.iter().map(|line| (path(line), line.jobs)).collect();
    assert_eq!(jobs[1], ("research".to_owned(), 1), "{jobs:?}");
    let above = drop_queue(&host, &ann, "research").await.unwrap_err();
    assert!(above.message().contains("queue `research/vision` is below `research`; drop it first"), "{above}");
    drop_queue(&host, &ann, "research/vision").await.unwrap();
    let used = drop_queue(&host, &ann, "research").await.unwrap_err();
    assert!(used.message().contains("still has 1 active jobs"), "{used}");
    host.api(Some(&ann)).cancel(CancelRequest { job: id }).await.unwrap();
    drop_queue(&host, &ann, "research").await.unwrap();
    put(&host, &ann, vec![queue("research/vision")]).await.unwrap();
    assert_eq!(listed(&host, &ann).await, ["default", "research/vision"]);
    let get = GetQueueRequest { path: "research".to_owned() };
    let gone = host.api(Some(&ann)).get_queue(get).await.unwrap_err();
    let said = "`research` is no queue itself, there are only queues below it: research/vision";
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, said));
    let unknown = drop_queue(&host, &ann, "nowhere").await.unwrap_err();
    let said = "there is no queue `nowhere`; there are: default, research/vision";
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, said));
    let kept = drop_queue(&host, &ann, "default").await.unwrap_err();
    assert!(kept.message().contains("always exists"), "{kept}");
    assert_eq!(drop_queue(&host, &ann, "../x").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_coordinator_puts_and_shows_queues_as_they_are_now_and_writes_down_who_did_it() {
    let hosts = three().await;
    let leader = hosts.iter().position(Host::leads).unwrap();
    let (host, follower) = (&hosts[leader], &hosts[(leader + 1) % 3]);
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    let vic = host.token(to_call("vic", RoleKind::Viewer, &[])).await;
    put(host, &ann, vec![queue("a")]).await.unwrap();
    assert_eq!(listed(follower, &vic).await, ["a", "default"], "what was acknowledged is read everywhere");
    put(follower, &ann, vec![queue("b"), queue("c")]).await.unwrap();
    assert_eq!(listed(host, &vic).await, ["a", "b", "c", "default"]);
    put(follower, &vic, vec![queue("d")]).await.unwrap_err();
    drop_queue(follower, &ann, "b").await.unwrap();
    let mut stale = Request::new(ListQueuesRequest {});
    stale.metadata_mut().insert("flowyard-stale", "1".parse().unwrap());
    let answer = follower.api(Some(&vic)).list_queues(stale).await.unwrap();
    assert!(answer.metadata().contains_key("flowyard-revision"), "{:?}", answer.metadata());

    let entries = audit::read(host, &ann).await;
    let about = entries.iter().filter(|entry| entry.action.ends_with("Queue") || entry.action.ends_with("Queues"));
    let told = about.map(|it| (it.caller.as_str(), it.action.as_str(), it.object.as_str(), it.result.as_str()));
    let denied = "PermissionDenied: vic (viewer) may not change queues; an operator may";
    let expected = [
        ("ann", "Flowyard/PutQueues", "queue a", "ok"),
        ("ann", "Flowyard/PutQueues", "queue b, c", "ok"),
        ("vic", "Flowyard/PutQueues", "queue d", denied),
        ("ann", "Flowyard/DropQueue", "queue b", "ok"),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_is_told_to_those_who_may_look_at_the_queue() {
    let host = alone().await;
    let ann = host.token(to_call("ann", RoleKind::Operator, &[])).await;
    put(&host, &ann, vec![queue("research")]).await.unwrap();
    let vic = host.token(to_call("vic", RoleKind::Viewer, &[])).await;
    let eve = host.token(to_call("eve", RoleKind::Submitter, &["research"])).await;
    let bob = host.token(to_call("bob", RoleKind::Submitter, &["default"])).await;
    let _n1 = Agent::connect(&host, let_in(&host, "n1").await, "n1").await.unwrap();
    for (token, queue) in [(&eve, "research"), (&bob, "default"), (&ann, "default")] {
        host.api(Some(token)).submit(job(queue, None)).await.unwrap();
    }
    let usage = async |token: &str, from_ms: u64, to_ms: Option<u64>| {
        host.api(Some(token)).get_usage(GetUsageRequest { from_ms, to_ms }).await.map(|it| it.into_inner())
    };
    // Half a CPU each, which is half a thousand thousandths a second.
    let used = async |token: &str| {
        let rows = usage(token, 1, None).await.unwrap().rows;
        let used = rows.into_iter().map(|row| (row.queue, row.owner, row.used.unwrap().cpu_milli_seconds >= 500));
        used.collect::<Vec<_>>()
    };
    let row = |queue: &str, owner: &str| (queue.to_owned(), owner.to_owned(), true);
    let all = vec![row("default", "ann"), row("default", "bob"), row("research", "eve")];
    until("all of them to have run for a second", async || used(&vic).await == all).await;
    assert_eq!(used(&eve).await, [row("research", "eve")]);
    assert_eq!(used(&bob).await, all[..2]);
    // What is asked for is told by whole hours, and not from before it is known.
    let answer = usage(&vic, 1, Some(u64::MAX)).await.unwrap();
    let (hour, now) = (3_600_000, flowyard_clock::wall_ms());
    assert!(answer.counted && answer.to_ms > now && answer.to_ms <= now + hour && answer.to_ms.is_multiple_of(hour));
    assert!((62..64).contains(&((now - answer.from_ms) / (24 * hour))), "{answer:?}");
    assert!(usage(&vic, now - 9 * hour, Some(now - 5 * hour)).await.unwrap().rows.is_empty(), "before it began");
    for (from, to) in [(5, Some(5)), (now + hour, None), (now + hour, Some(now + 2 * hour))] {
        let refused = usage(&vic, from, to).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}
