//! Tasks that wait before anything is measured, in a queue that lets nothing start: what each of them costs, and what they cost others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::{Name, Queue, QueueAmounts, QueuePath};
use flowyard_sdk::client::Client;

use super::cluster::{Cluster, until_put};
use super::figures::Backlog;
use super::load::Load;
use super::workload::Workload;
use crate::failure::Failure;
use crate::output;

/// How long coordinators that follow may take to have applied everything.
const SETTLE: Duration = Duration::from_secs(2);

/// Submits them; what came of it.
pub(super) async fn submit(
    cluster: &Cluster,
    client: &mut Client,
    run: &Name,
    (tasks, distinct): (u64, bool),
    patience: Duration,
) -> Result<Backlog, Failure> {
    let fault = |error: String| Failure::Internal(format!("the tasks that wait: {error}"));
    let queue: QueuePath = "bench/waiting".parse().map_err(|error| fault(format!("{error}")))?;
    let tag: Name = format!("{run}-waiting").parse().map_err(|error| fault(format!("{error}")))?;
    let limit = QueueAmounts { cpu_milli: Some(0), ..QueueAmounts::default() };
    until_put(client, &Queue { limit, ..Queue::new(queue.clone()) }).await?;
    output::note(format!("{tasks} tasks are submitted that cannot run"));
    let before = cluster.taken();
    let start = flowyard_clock::monotonic();
    let clients = BTreeMap::from([(None, client.clone())]);
    let load = Load { run, tag: &tag, retries: 0, clients, taken: Arc::default(), patience };
    load.submit(&Workload::waiting(tasks, distinct, queue)).await?;
    let submit_ms = flowyard_clock::elapsed(start).as_millis() as u64;
    tokio::time::sleep(SETTLE).await;
    let grown =
        before.iter().zip(cluster.taken()).map(|(before, after)| after.rss_bytes.saturating_sub(before.rss_bytes));
    let rss_bytes = grown.max().unwrap_or_default();
    Ok(Backlog { tasks, distinct, submit_ms, rss_bytes, bytes_per_task: rss_bytes / tasks.max(1) })
}
