//! What the suite asks as the cluster's owner, through each coordinator's own socket.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flowyard_proto::{api, cluster};
use flowyard_sdk::client::{Client, ClientError, Endpoint};
use tokio::runtime::Runtime;

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(10);
/// Jobs of one page.
const PAGE: u32 = 1_000;

/// Asks.
#[derive(Debug)]
pub(crate) struct Owner {
    runtime: Runtime,
    /// Connections that answered last time.
    open: RefCell<BTreeMap<PathBuf, Client>>,
}

/// All that a cluster says about a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) job: api::Job,
    pub(crate) tasks: Vec<api::Task>,
    pub(crate) artifacts: Vec<api::Artifact>,
}

impl Owner {
    pub(crate) fn new() -> std::io::Result<Self> {
        // A thread of its own: connections answer a coordinator's pings while nothing is asked; else it hangs up after some seconds.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime, open: RefCell::default() })
    }

    /// Asks at a coordinator's socket.
    pub(crate) fn ask<T>(
        &self,
        socket: &Path,
        question: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, String> {
        let known = self.open.borrow_mut().remove(socket);
        self.runtime.block_on(async {
            let mut client = known.unwrap_or_else(|| Client::new(Endpoint::socket(socket)));
            let answer = tokio::time::timeout(QUESTION, question(&mut client)).await;
            let answer = answer.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string());
            if answer.is_ok() {
                self.open.borrow_mut().insert(socket.to_owned(), client);
            }
            answer
        })
    }

    pub(crate) fn status(&self, socket: &Path) -> Result<cluster::ClusterStatus, String> {
        self.ask(socket, async |client| client.get_status(cluster::GetStatusRequest {}).await)
    }

    /// Every job there is, oldest first.
    pub(crate) fn jobs(&self, socket: &Path) -> Result<Vec<api::JobRow>, String> {
        let mut rows: Vec<api::JobRow> = Vec::new();
        loop {
            let before_job = rows.last().map(|row| row.job);
            let request = api::ListJobsRequest { limit: PAGE, before_job, ..api::ListJobsRequest::default() };
            let page = self.ask(socket, async |client| client.list_jobs(request).await)?;
            rows.extend(page.jobs);
            if !page.more {
                rows.reverse();
                return Ok(rows);
            }
        }
    }

    /// All about one job. The revision at which it was asked is left out.
    pub(crate) fn job(&self, socket: &Path, job: u64) -> Result<Told, String> {
        self.ask(socket, async |client| {
            let shown = client.get_job(api::GetJobRequest { job }).await?;
            let tasks = api::ListTasksRequest { job, limit: PAGE, ..api::ListTasksRequest::default() };
            let artifacts = api::ListArtifactsRequest { job, ..api::ListArtifactsRequest::default() };
            Ok(Told {
                job: api::Job { revision: 0, ..shown },
                tasks: client.list_tasks(tasks).await?.tasks,
                artifacts: client.list_artifacts(artifacts).await?.artifacts,
            })
        })
    }

    pub(crate) fn nodes(&self, socket: &Path) -> Result<Vec<api::Node>, String> {
        Ok(self.ask(socket, async |client| client.list_nodes(api::ListNodesRequest {}).await)?.nodes)
    }

    /// The bytes of an artifact that is one file of a known content, as this coordinator gives them.
    pub(crate) fn bytes(&self, socket: &Path, job: u64, digest: flowyard_model::Digest) -> Result<Vec<u8>, String> {
        self.ask(socket, async |client| client.download_bytes(flowyard_model::JobId(job), digest).await)
    }
}
