//! `failover`: the leader is killed with SIGKILL, at the defaults of both; how long until the next call is acknowledged, and then how
//! long until the next task is placed. etcd and ours take turns.
//!
//! Calls are sent every few milliseconds to both members that are left, and nobody waits for the answer of the one before: how long
//! a client waits before it asks again is not what is measured. Only calls that were sent after the kill count.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use flowyard_model::JobId;
use flowyard_proto::api::ListTasksRequest;
use flowyard_sdk::client::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::asked::Asked;
use crate::etcd::{Etcd, MEMBERS};
use crate::figures::{Times, millis, print_bound};
use crate::fleet::{COORDINATORS, Fleet};
use crate::processes::PATIENCE;
use crate::work;

/// Between two calls.
const EVERY: Duration = Duration::from_millis(10);
/// How long a cluster rests after it is whole again.
const REST: Duration = Duration::from_millis(1_500);
const PLACEMENT_GOAL_MS: f64 = 300.0;
const ACKNOWLEDGED_GOAL_MS: f64 = 500.0;

/// Measures, and prints what both took.
pub(crate) async fn run(asked: &Asked, place: &Path) -> Result<(), String> {
    let mut etcd = Etcd::form(&place.join("etcd")).await?;
    let mut fleet = Fleet::form(&asked.program, &place.join("fleet")).await?;
    for _ in 0..2 {
        fleet.add_agent("cpu = \"4\"\n").await?;
    }
    let times = if asked.quick { 3 } else { 30 };
    let (mut theirs, mut ours, mut placed) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..times {
        theirs.push(etcd_once(&mut etcd, number).await?);
        let (acknowledged, then) = ours_once(&mut fleet).await?;
        ours.push(acknowledged);
        placed.push(then);
        println!(
            "    {number:>3}: etcd {:>7.0} ms, ours {:>7.0} ms, then placed {:>5.0} ms",
            millis(theirs[number]),
            millis(acknowledged),
            millis(then)
        );
    }
    let (ours, theirs, placed) = (Times::new(ours), Times::new(theirs), Times::new(placed));
    println!("kill -9 to next put, etcd            {}", theirs.line());
    println!("kill -9 to next submit               {}", ours.line());
    println!("then to next placement               {}", placed.line());
    let ratio = theirs.at(500).as_secs_f64() / ours.at(500).as_secs_f64();
    let verdict = if ratio >= 2.0 { "reached" } else { "SHORT" };
    println!("{:<44} {ratio:.2} times as fast as etcd  goal 2.00  {verdict}", "next acknowledged submit, p50");
    print_bound("next acknowledged submit, p50", millis(ours.at(500)), ACKNOWLEDGED_GOAL_MS, "ms");
    print_bound("next placement after it, p50", millis(placed.at(500)), PLACEMENT_GOAL_MS, "ms");
    print_bound("next placement after it, p99", millis(placed.at(990)), PLACEMENT_GOAL_MS, "ms");
    fleet.stop();
    Ok(())
}

async fn etcd_once(etcd: &mut Etcd, number: usize) -> Result<Duration, String> {
    let leader = etcd.settle().await?;
    tokio::time::sleep(REST).await;
    let mut clients = Vec::new();
    for member in (0..MEMBERS).filter(|member| *member != leader) {
        let mut client = etcd.client(member);
        client.put("warm".into(), "up".into()).await.map_err(|status| status.to_string())?;
        clients.push(client);
    }
    etcd.kill(leader);
    let mut sent = 0;
    let (took, ()) = first_answer(|| {
        sent += 1;
        let mut client = clients[sent % clients.len()].clone();
        let key = Bytes::from(format!("failover/{number}/{sent}"));
        async move { client.put(key, Bytes::from_static(&[7; 100])).await.ok() }
    })
    .await
    .ok_or("etcd answers no more")?;
    etcd.restart(leader)?;
    Ok(took)
}

async fn ours_once(fleet: &mut Fleet) -> Result<(Duration, Duration), String> {
    let leader = fleet.settle().await?;
    tokio::time::sleep(REST).await;
    let spec = work::small(&["/bin/true"])?;
    let mut clients = Vec::new();
    for number in (0..COORDINATORS).filter(|number| *number != leader) {
        let mut client = fleet.client(&[number]);
        client.submit(&spec, None).await.map_err(|error| error.to_string())?;
        clients.push(client);
    }
    // What was submitted to warm up is placed and done before.
    tokio::time::sleep(REST).await;
    fleet.kill(leader);
    let mut sent = 0;
    let (took, (client, job)) = first_answer(|| {
        sent += 1;
        let (mut client, spec) = (clients[sent % clients.len()].clone(), spec.clone());
        async move {
            let (job, _) = client.submit(&spec, None).await.ok()?;
            Some((client, job))
        }
    })
    .await
    .ok_or("no coordinator answers any more")?;
    let placed = until_placed(&client, job).await?;
    fleet.restart(leader)?;
    Ok((took, placed))
}

/// Sends a call every [`EVERY`] until one is answered well: how long that took from now, and the answer.
async fn first_answer<T, F>(mut call: impl FnMut() -> F) -> Option<(Duration, T)>
where
    T: Send + 'static,
    F: Future<Output = Option<T>> + Send + 'static,
{
    let start = flowyard_clock::monotonic();
    let (answered, mut answers) = mpsc::channel(1);
    let mut calls = JoinSet::new();
    while flowyard_clock::elapsed(start) < PATIENCE {
        let (answered, call) = (answered.clone(), call());
        calls.spawn(async move {
            if let Some(answer) = call.await {
                // Another one may have been first.
                let _ = answered.try_send((flowyard_clock::elapsed(start), answer));
            }
        });
        if let Ok(Some(first)) = tokio::time::timeout(EVERY, answers.recv()).await {
            return Some(first);
        }
    }
    None
}

/// How long until a job's task is placed, as the coordinator that took the job sees it.
async fn until_placed(client: &Client, job: JobId) -> Result<Duration, String> {
    let start = flowyard_clock::monotonic();
    let mut client = client.stale();
    while flowyard_clock::elapsed(start) < PATIENCE {
        let asked = ListTasksRequest { job: job.0, limit: 1, ..ListTasksRequest::default() };
        if let Ok(answer) = client.list_tasks(asked).await
            && answer.tasks.first().is_some_and(|task| !task.attempts.is_empty())
        {
            return Ok(flowyard_clock::elapsed(start));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(format!("the task of job {job} is not placed"))
}
