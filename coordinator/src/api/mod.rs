//! The API's services: one file per kind of question. Reads are answered from the newest view; wishes go through the log.

mod alternatives;
mod artifacts;
mod batch;
mod blobs;
mod dry_run;
mod exec;
mod feasible;
mod jobs;
mod logs;
mod nodes;
mod policy;
mod queues;
mod storage;
mod submit;
mod tasks;
mod usage;
mod watch;
mod why;

use flowyard_model::{
    AttemptNumber, ClusterVersion, Job, JobId, QueuePath, Rejection, StepIndex, TaskIndex, TaskKey, TimeMs,
};
use flowyard_proto::api::flowyard_server::Flowyard;
use flowyard_proto::api::{
    CancelRequest, CancelResponse, ChangeNodeRequest, ChangeNodeResponse, Cluster, DropQueueRequest, DropQueueResponse,
    DryRunRequest, DryRunResponse, ExecRequest, ExecResponse, GetClusterRequest, GetJobRequest, GetPolicyRequest,
    GetPolicyResponse, GetQueueRequest, GetQueueResponse, GetStorageRequest, GetUsageRequest, GetUsageResponse,
    ListArtifactsRequest, ListArtifactsResponse, ListJobsRequest, ListJobsResponse, ListNodesRequest,
    ListNodesResponse, ListQueuesRequest, ListQueuesResponse, ListTasksRequest, ListTasksResponse, LogsRequest,
    LogsResponse, PruneRequest, PruneResponse, PutPolicyRequest, PutPolicyResponse, PutQueuesRequest,
    PutQueuesResponse, Storage, SubmitBatchRequest, SubmitBatchResponse, SubmitRequest, SubmitResponse,
    WatchJobRequest, WatchJobResponse, WhyRequest, WhyResponse,
};
use flowyard_state::{Ref, State, View};
use tonic::{Request, Response, Status, Streaming};

pub(crate) use blobs::BlobEndpoint;
pub(crate) use jobs::row as job_row;

use crate::access::{Action, Caller, allow};
use crate::archive::Archived;
use crate::caller::{self, allowed};
use crate::coordinator::Shared;
use crate::standing::{Answers, while_standing};

/// The service behind `fctl` and the SDKs.
#[derive(Clone)]
pub(crate) struct ApiEndpoint {
    shared: Shared,
}

impl ApiEndpoint {
    /// A service of this coordinator.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// The state that a reader is answered from: what everybody agrees on now, or with [`STALE`](crate::stale::STALE) what this coordinator has.
    async fn view<T>(&self, request: &Request<T>) -> Result<View, Status> {
        if request.metadata().contains_key(crate::stale::STALE) {
            return Ok(self.shared.feed.view());
        }
        self.shared.fresh_view().await
    }

    /// The state, in which the caller still is who they were.
    async fn view_of<T>(&self, request: &Request<T>) -> Result<View, Status> {
        let standing = caller::standing(request)?;
        let view = self.view(request).await?;
        standing.check_in(&view)?;
        Ok(view)
    }

    /// The state, once the caller may do this to the job.
    async fn view_for<T>(
        &self,
        request: &Request<T>,
        job: u64,
        action: impl for<'a> Fn(&'a QueuePath) -> Action<'a>,
    ) -> Result<View, Status> {
        let view = self.view_of(request).await?;
        check_job(&caller::of(request)?, &view, job, action)?;
        Ok(view)
    }
}

/// The state that a question about one job is answered from.
struct Found {
    view: View,
    /// When the job was archived, if the state has forgotten it.
    archived: Option<TimeMs>,
}

impl ApiEndpoint {
    /// As [`ApiEndpoint::view_for`], also of a job that is only in the archive.
    async fn found_for<T>(
        &self,
        request: &Request<T>,
        job: u64,
        action: impl for<'a> Fn(&'a QueuePath) -> Action<'a>,
    ) -> Result<Found, Status> {
        let standing = caller::standing(request)?;
        let view = self.view(request).await?;
        standing.check_in(&view)?;
        let mut found = Found { view, archived: None };
        if found.view.job(JobId(job)).is_none() {
            let archived = self.shared.archive.find(&self.shared.durable, &found.view, JobId(job)).await;
            let archived = archived.map_err(|error| Status::unavailable(error.to_string()))?;
            if let Some(Archived { view, at }) = archived {
                found = Found { view, archived: Some(at) };
            }
        }
        check_job(&standing.caller, &found.view, job, action)?;
        Ok(found)
    }
}

/// That the caller may do this to the job, whose queue decides.
fn check_job(
    caller: &Caller,
    view: &View,
    job: u64,
    action: impl for<'a> Fn(&'a QueuePath) -> Action<'a>,
) -> Result<(), Status> {
    let (_, job) = find_job(view, job)?;
    Ok(allow(caller, action(&job.spec.queue))?)
}

/// Reads what may be as much as a wide job has tasks, beside the asynchronous threads.
async fn beside<T: Send + 'static>(read: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(Status::internal(format!("a read did not end: {error}"))))
}

/// The job, or the refusal that a client reads.
fn find_job(view: &View, job: u64) -> Result<(JobId, Ref<'_, Job>), Status> {
    let id = JobId(job);
    view.job(id)
        .map(|job| (id, job))
        .ok_or_else(|| flowyard_proto::status::rejected(&Rejection::UnknownJob { job: id }))
}

/// The task, whether it was touched or not.
fn find_task(view: &View, job: u64, step: u32, task: u32) -> Result<TaskKey, Status> {
    let (id, found) = find_job(view, job)?;
    let steps = found.spec.steps.len();
    if step as usize >= steps {
        return Err(Status::not_found(format!("job {id} has {steps} steps; there is none at position {step}")));
    }
    let key = TaskKey { job: id, step: StepIndex(step), task: TaskIndex(task) };
    match view.task_state(key) {
        Some(_) => Ok(key),
        None => {
            let name = &found.spec.steps[step as usize].name;
            let count = view.step(id, key.step).and_then(|step| step.count);
            Err(Status::not_found(match count {
                Some(1) => format!("step {id}/{name} has one task, {id}/{name}/0; there is no task {task}"),
                Some(count) => format!("step {id}/{name} has {count} tasks, numbered from 0; there is no task {task}"),
                None => format!("step {id}/{name} does not know its tasks yet: the list they come from is not written"),
            }))
        }
    }
}

/// The attempt asked for, or the last.
fn find_attempt(view: &View, key: TaskKey, number: Option<u32>) -> Result<&flowyard_model::Attempt, Status> {
    let reference = reference(view, key);
    let attempts = view.task(key).map_or(&[][..], |task| &task.attempts);
    let found = match number {
        Some(number) => attempts.iter().find(|attempt| attempt.number == AttemptNumber(number)),
        None => attempts.last(),
    };
    found.ok_or_else(|| match (number, attempts.len()) {
        (Some(number), 0) => {
            Status::not_found(format!("there is no attempt {reference}#{number}: the task has not been tried yet"))
        }
        (Some(number), last) => {
            Status::not_found(format!("there is no attempt {reference}#{number}; the last is #{last}"))
        }
        (None, _) => Status::failed_precondition(format!("task {reference} has not been tried yet")),
    })
}

/// A task as a person names it.
fn reference(view: &State, key: TaskKey) -> String {
    let step = view.step_spec(key.job, key.step).map_or_else(|| key.step.to_string(), |step| step.name.to_string());
    format!("{}/{step}/{}", key.job, key.task)
}

#[tonic::async_trait]
impl Flowyard for ApiEndpoint {
    type WatchJobStream = Answers<WatchJobResponse>;
    type LogsStream = Answers<LogsResponse>;
    type ExecStream = Answers<ExecResponse>;

    async fn get_cluster(&self, request: Request<GetClusterRequest>) -> Result<Response<Cluster>, Status> {
        allowed(&request, Action::GetCluster)?;
        let config = &self.shared.config;
        Ok(Response::new(Cluster {
            id: self.shared.cluster_id.clone(),
            epoch: self.shared.epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.shared.feed.view().revision().0,
            embedded: config.embedded,
            home: config.home.display().to_string(),
            engine: self.shared.replica.engine().name().to_owned(),
            newest_version: ClusterVersion::NEWEST.0,
        }))
    }

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let standing = caller::standing(&request)?;
        submit::submit(&self.shared, &standing, request.into_inner()).await.map(Response::new)
    }

    async fn submit_batch(
        &self,
        request: Request<SubmitBatchRequest>,
    ) -> Result<Response<SubmitBatchResponse>, Status> {
        let standing = caller::standing(&request)?;
        batch::submit_batch(&self.shared, &standing, request.into_inner()).await.map(Response::new)
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        caller::about(&request, &format!("job {}", request.get_ref().job));
        self.view_for(&request, request.get_ref().job, |queue| Action::Cancel { queue }).await?;
        submit::cancel(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let (caller, standing) = (allowed(&request, Action::ListJobs)?, caller::standing(&request)?);
        let view = self.view(&request).await?;
        standing.check_in(&view)?;
        let asked = request.get_ref();
        if asked.archived {
            let looks = |queue: &QueuePath| allow(&caller, Action::GetJob { queue }).is_ok();
            return jobs::archived(&self.shared, &view, asked, looks).await.map(Response::new);
        }
        let looks = move |queue: &QueuePath| allow(&caller, Action::GetJob { queue }).is_ok();
        let asked = request.into_inner();
        beside(move || jobs::list(&view, &asked, looks)).await.map(Response::new)
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<flowyard_proto::api::Job>, Status> {
        let found = self.found_for(&request, request.get_ref().job, |queue| Action::GetJob { queue }).await?;
        let asked = request.into_inner();
        let detail = move || {
            let Found { view, archived } = found;
            let (id, job) = find_job(&view, asked.job)?;
            let detail = jobs::detail(&view, id, &job);
            Ok(flowyard_proto::api::Job { archived_ms: archived.map(|at| at.0), ..detail })
        };
        beside(detail).await.map(Response::new)
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let Found { view, .. } =
            self.found_for(&request, request.get_ref().job, |queue| Action::ListTasks { queue }).await?;
        let asked = request.into_inner();
        beside(move || tasks::list(&view, &asked)).await.map(Response::new)
    }

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let found = self.found_for(&request, request.get_ref().job, |queue| Action::WatchJob { queue }).await?;
        let standing = caller::standing(&request)?;
        let answers = match found.archived {
            None => watch::watch(&self.shared, &request.into_inner()).await?,
            Some(_) => watch::archived(&found.view, request.get_ref().job)?,
        };
        Ok(Response::new(while_standing(standing, answers)))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let found = self.found_for(&request, request.get_ref().job, |queue| Action::Logs { queue }).await?;
        let standing = caller::standing(&request)?;
        let asked = request.into_inner();
        let answers = match found.archived {
            None => logs::logs(&self.shared, asked).await?,
            Some(_) => logs::archived(&self.shared, &found.view, asked)?,
        };
        Ok(Response::new(while_standing(standing, answers)))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyResponse>, Status> {
        let found = self.found_for(&request, request.get_ref().job, |queue| Action::Why { queue }).await?;
        let (caller, shared, asked) = (caller::of(&request)?, self.shared.clone(), request.into_inner());
        let looks = move |queue: &QueuePath| allow(&caller, Action::LookAtQueue { queue }).is_ok();
        // One at a time: what it takes is bounded, and several at once would still be felt.
        let turn = match why::is_long(&found.view, asked.job) {
            true => Some(self.shared.explaining.clone().acquire_owned().await),
            false => None,
        };
        beside(move || {
            // Also where nobody waits for the answer any more, it is one at a time.
            let _turn = turn;
            why::why(&shared, &found.view, &asked, &looks)
        })
        .await
        .map(Response::new)
    }

    async fn exec(&self, request: Request<Streaming<ExecRequest>>) -> Result<Response<Self::ExecStream>, Status> {
        let standing = caller::standing(&request)?;
        let answers = exec::exec(&self.shared, &standing, request.into_inner()).await?;
        Ok(Response::new(while_standing(standing, answers)))
    }

    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        let caller = allowed(&request, Action::ListNodes)?;
        Ok(Response::new(nodes::list(&self.shared, &caller)))
    }

    async fn change_node(&self, request: Request<ChangeNodeRequest>) -> Result<Response<ChangeNodeResponse>, Status> {
        caller::about(&request, &format!("node {}", request.get_ref().name));
        let caller = allowed(&request, Action::ChangeNode)?;
        nodes::change(&self.shared, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_artifacts(
        &self,
        request: Request<ListArtifactsRequest>,
    ) -> Result<Response<ListArtifactsResponse>, Status> {
        let Found { view, .. } =
            self.found_for(&request, request.get_ref().job, |queue| Action::ListArtifacts { queue }).await?;
        artifacts::list(&view, &request.into_inner()).map(Response::new)
    }

    async fn get_storage(&self, request: Request<GetStorageRequest>) -> Result<Response<Storage>, Status> {
        allowed(&request, Action::GetStorage)?;
        storage::get(&self.shared).await.map(Response::new)
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        allowed(&request, Action::Prune)?;
        storage::prune(&self.shared, &request.into_inner()).await.map(Response::new)
    }

    async fn put_queues(&self, request: Request<PutQueuesRequest>) -> Result<Response<PutQueuesResponse>, Status> {
        let paths: Vec<&str> = request.get_ref().queues.iter().map(|queue| queue.path.as_str()).collect();
        caller::about(&request, &format!("queue {}", paths.join(", ")));
        let (caller, standing) = (allowed(&request, Action::ChangeQueue)?, caller::standing(&request)?);
        let queues = flowyard_proto::request::put_queues(request.into_inner())?;
        let put = queues::put(&self.shared, queues).await?;
        if let Some(refused) = &put.refused {
            let done = put.changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>().join(", ");
            standing.about(&format!("queue {done}; then {} was refused: {}", refused.path, refused.message));
        }
        tracing::info!(queues = put.changes.len(), by = caller.principal(), "queues were put");
        Ok(Response::new(put))
    }

    async fn drop_queue(&self, request: Request<DropQueueRequest>) -> Result<Response<DropQueueResponse>, Status> {
        caller::about(&request, &format!("queue {}", request.get_ref().path));
        let caller = allowed(&request, Action::ChangeQueue)?;
        let path = flowyard_proto::request::queue_path(&request.get_ref().path)?;
        let dropped = queues::forget(&self.shared, path.clone()).await?;
        tracing::info!(queue = %path, by = caller.principal(), "a queue was dropped");
        Ok(Response::new(dropped))
    }

    async fn list_queues(&self, request: Request<ListQueuesRequest>) -> Result<Response<ListQueuesResponse>, Status> {
        let caller = allowed(&request, Action::ListQueues)?;
        let view = self.view_of(&request).await?;
        Ok(Response::new(queues::list(&view, |queue| allow(&caller, Action::LookAtQueue { queue }).is_ok())))
    }

    async fn get_queue(&self, request: Request<GetQueueRequest>) -> Result<Response<GetQueueResponse>, Status> {
        let path = flowyard_proto::request::queue_path(&request.get_ref().path)?;
        let caller = allowed(&request, Action::LookAtQueue { queue: &path })?;
        let view = self.view_of(&request).await?;
        queues::get(&view, &path, |queue| allow(&caller, Action::LookAtQueue { queue }).is_ok()).map(Response::new)
    }

    async fn put_policy(&self, request: Request<PutPolicyRequest>) -> Result<Response<PutPolicyResponse>, Status> {
        let told = policy::told(&request.get_ref().policy.clone().unwrap_or_default());
        caller::about(&request, &told);
        let caller = allowed(&request, Action::ChangePolicy)?;
        let policy = flowyard_proto::request::put_policy(request.into_inner())?;
        let put = policy::put(&self.shared, policy).await?;
        tracing::info!(by = caller.principal(), "the policy was put");
        Ok(Response::new(put))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<GetPolicyResponse>, Status> {
        allowed(&request, Action::GetPolicy)?;
        self.view_of(&request).await.map(|view| Response::new(policy::get(&view)))
    }

    async fn get_usage(&self, request: Request<GetUsageRequest>) -> Result<Response<GetUsageResponse>, Status> {
        let caller = allowed(&request, Action::GetUsage)?;
        let (view, now) = (self.view_of(&request).await?, self.shared.stamps.now());
        let looks = move |queue: &QueuePath| allow(&caller, Action::LookAtQueue { queue }).is_ok();
        beside(move || usage::get(&view, request.get_ref(), now, looks)).await.map(Response::new)
    }

    async fn dry_run(&self, request: Request<DryRunRequest>) -> Result<Response<DryRunResponse>, Status> {
        let standing = caller::standing(&request)?;
        dry_run::dry_run(&self.shared, &standing, request.into_inner()).await.map(Response::new)
    }
}
