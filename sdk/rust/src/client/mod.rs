//! The client of the API: what the command line and every Rust program use. Answers are the messages of `api/v1`.

mod cluster;
mod download;
mod endpoint;
mod error;
mod parts;
mod patience;
mod queues;
mod upload;

use std::collections::BTreeMap;

use flowyard_model::{ClusterVersion, Digest, JobId, JobSpec};
use flowyard_proto::api;
use flowyard_proto::api::flowyard_client::FlowyardClient;
use flowyard_proto::blob::blobs_client::BlobsClient;
use flowyard_proto::cluster::administration_client::AdministrationClient;
use flowyard_proto::cluster::secrets_client::SecretsClient;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub use endpoint::{Endpoint, EndpointError};
pub use error::ClientError;
pub use parts::parts;
pub use patience::{Patience, fresh_key};
pub use queues::Put;
pub use upload::{Sent, Source};

/// Bytes of the largest message taken: a wide job's tasks come in pages, but one spec may be large.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How often what a job names is sent before its refusal is final: coordinators do not change hands that often.
const UPLOADS: u32 = 4;

/// A connection to a cluster.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    api: FlowyardClient<Shown>,
    blobs: BlobsClient<Shown>,
    administration: AdministrationClient<Shown>,
    secrets: SecretsClient<Shown>,
    staleness: Option<Staleness>,
}

/// How old the state is that an answer is from, where an old one was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staleness {
    /// Its revision, or an earlier one.
    pub revision: u64,
    /// When it was changed last, in milliseconds since the Unix epoch.
    pub changed_ms: u64,
}

/// A channel on which each request shows who calls.
type Shown = InterceptedService<Channel, endpoint::Bearer>;

/// One line per call whose request and answer are plain messages, and which may be made twice: while a fleet elects another leader,
/// it is.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// Whatever any call can fail with.
            pub async fn $name(&mut self, request: api::$request) -> Result<api::$answer, ClientError> {
                let mut patience = self.endpoint.patience();
                loop {
                    let error = match self.api.$name(request.clone()).await {
                        Ok(answer) => {
                            self.note_staleness(answer.metadata());
                            return Ok(answer.into_inner());
                        }
                        Err(status) => self.sorted(status),
                    };
                    match patience.after(&error) {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => return Err(error),
                    }
                }
            }
        )*
    };
}

impl Client {
    /// A client of the cluster at `endpoint`. It connects with the first call.
    pub fn new(endpoint: Endpoint) -> Self {
        Self::showing(endpoint, false)
    }

    /// A client of the same cluster whose reads are content with what any coordinator knows, also when none leads. What it was
    /// answered from is told by [`Client::staleness`].
    #[must_use]
    pub fn stale(&self) -> Self {
        Self::showing(self.endpoint.clone(), true)
    }

    fn showing(endpoint: Endpoint, stale: bool) -> Self {
        let mut bearer = endpoint.bearer();
        bearer.stale = stale;
        let shown = Shown::new(endpoint.channel(), bearer);
        let api = FlowyardClient::new(shown.clone()).max_decoding_message_size(MESSAGE_BYTES);
        let (blobs, secrets) = (BlobsClient::new(shown.clone()), SecretsClient::new(shown.clone()));
        let administration = AdministrationClient::new(shown);
        Self { endpoint, api, blobs, administration, secrets, staleness: None }
    }

    /// What the parts of the cluster say of themselves, as files.
    ///
    /// # Errors
    /// Whatever any call can fail with; [`ClientError::Refused`] for who is no operator.
    pub async fn diagnose(
        &mut self,
    ) -> Result<tonic::Streaming<flowyard_proto::cluster::DiagnoseResponse>, ClientError> {
        let answer = self.administration.diagnose(flowyard_proto::cluster::DiagnoseRequest {}).await;
        Ok(answer.map_err(|status| self.sorted(status))?.into_inner())
    }

    /// Who did what, of all coordinators.
    ///
    /// # Errors
    /// Whatever any call can fail with; [`ClientError::Refused`] for who is no operator.
    pub async fn read_audit(
        &mut self,
        request: flowyard_proto::cluster::ReadAuditRequest,
    ) -> Result<tonic::Streaming<flowyard_proto::cluster::ReadAuditResponse>, ClientError> {
        let answer = self.administration.read_audit(request).await;
        Ok(answer.map_err(|status| self.sorted(status))?.into_inner())
    }

    /// The oldest state that an answer was from, if old ones were asked for.
    pub fn staleness(&self) -> Option<Staleness> {
        self.staleness
    }

    fn note_staleness(&mut self, metadata: &MetadataMap) {
        let number = |name: &str| metadata.get(name)?.to_str().ok()?.parse().ok();
        let (Some(revision), Some(changed_ms)) = (number("flowyard-revision"), number("flowyard-changed-ms")) else {
            return;
        };
        if self.staleness.is_none_or(|known| revision < known.revision) {
            self.staleness = Some(Staleness { revision, changed_ms });
        }
    }

    /// Where it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    calls! {
        /// Who answers, and for which cluster.
        get_cluster(GetClusterRequest) -> Cluster;
        /// Jobs, newest first.
        list_jobs(ListJobsRequest) -> ListJobsResponse;
        /// One job with its steps.
        get_job(GetJobRequest) -> Job;
        /// Tasks with their attempts.
        list_tasks(ListTasksRequest) -> ListTasksResponse;
        /// Why something is pending or failed.
        why(WhyRequest) -> WhyResponse;
        /// Stops a job.
        cancel(CancelRequest) -> CancelResponse;
        /// The machines.
        list_nodes(ListNodesRequest) -> ListNodesResponse;
        /// Closes a node to new work, empties it, opens it again, or forgets it.
        change_node(ChangeNodeRequest) -> ChangeNodeResponse;
        /// What tasks have written.
        list_artifacts(ListArtifactsRequest) -> ListArtifactsResponse;
        /// What is kept, and how large it is.
        get_storage(GetStorageRequest) -> Storage;
        /// Forgets ended jobs.
        prune(PruneRequest) -> PruneResponse;
        /// Forgets a queue in which there is no job, and below which there is no queue.
        drop_queue(DropQueueRequest) -> DropQueueResponse;
        /// The queues that the caller may look at.
        list_queues(ListQueuesRequest) -> ListQueuesResponse;
        /// One of them.
        get_queue(GetQueueRequest) -> GetQueueResponse;
        /// What was used over time.
        get_usage(GetUsageRequest) -> GetUsageResponse;
        /// Says what holds for all of the cluster, as a whole.
        put_policy(PutPolicyRequest) -> PutPolicyResponse;
        /// What holds for all of the cluster.
        get_policy(GetPolicyRequest) -> GetPolicyResponse;
    }

    /// Submits a job. With a `key`, the same submission made twice is one job.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the spec breaks a rule, could never be placed, or the key was used for another spec.
    pub async fn submit(&mut self, spec: &JobSpec, key: Option<String>) -> Result<(JobId, bool), ClientError> {
        self.must_know(spec).await?;
        let request = api::SubmitRequest { spec: Some(spec.into()), key };
        let answer = self.api.submit(request).await.map_err(|status| self.sorted(status))?.into_inner();
        Ok((JobId(answer.job), answer.existing))
    }

    /// A cluster of the release before takes what it does not know, and leaves it out without a word.
    async fn must_know(&mut self, spec: &JobSpec) -> Result<(), ClientError> {
        if spec.is_newer()
            && self.get_cluster(api::GetClusterRequest {}).await?.newest_version < ClusterVersion::ACCESS.0
        {
            let message = "this cluster is of an older release, which knows no secrets, deadlines, times to live in the queue, \
                           stop signals and rules of retries: upgrade it, or leave them out";
            return Err(ClientError::Refused(message.to_owned()));
        }
        Ok(())
    }

    /// What would come of a submission, of which these blobs would be uploaded before. All its checks are made, and nothing is stored.
    ///
    /// # Errors
    /// As [`Client::submit`]; [`ClientError::Refused`] by a cluster of a release that does not know the question.
    pub async fn dry_run(
        &mut self,
        spec: &JobSpec,
        key: Option<String>,
        brought: impl IntoIterator<Item = Digest>,
    ) -> Result<api::DryRunResponse, ClientError> {
        self.must_know(spec).await?;
        let brought = brought.into_iter().map(Into::into).collect();
        let request = api::DryRunRequest { submit: Some(api::SubmitRequest { spec: Some(spec.into()), key }), brought };
        Ok(self.api.dry_run(request).await.map_err(|status| self.sorted(status))?.into_inner())
    }

    /// Makes sure the cluster has these blobs, and submits a job that names them. The coordinator that took them may be gone when the
    /// job is submitted, and the next one lack some, or not know who sent them: they are sent again then.
    ///
    /// # Errors
    /// As [`Client::upload`] and [`Client::submit`].
    pub async fn submit_with(
        &mut self,
        spec: &JobSpec,
        key: Option<String>,
        blobs: &BTreeMap<Digest, Source>,
    ) -> Result<(JobId, bool), ClientError> {
        if blobs.is_empty() {
            return self.submit(spec, key).await;
        }
        let upload = async |client: &mut Self| client.upload(blobs.clone()).await.map(drop);
        let submit = async |client: &mut Self| client.submit(spec, key.clone()).await;
        self.stored_first(upload, submit).await
    }

    /// Uploads, then asks; again from the beginning while the answer is that something has to be uploaded.
    async fn stored_first<T>(
        &mut self,
        mut upload: impl AsyncFnMut(&mut Self) -> Result<(), ClientError>,
        mut ask: impl AsyncFnMut(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut uploads = 0;
        loop {
            upload(self).await?;
            uploads += 1;
            match ask(self).await {
                Err(ClientError::NotStored(_)) if uploads < UPLOADS => {}
                answer => return answer,
            }
        }
    }

    /// Submits up to 1,000 jobs of 8 MiB together in one call (see [`parts`]), each with its key; what came of each, in their order. One that is refused does not keep
    /// the others from being taken.
    ///
    /// # Errors
    /// When the call as a whole is refused or not answered. With keys, it can be made again then.
    pub async fn submit_batch(
        &mut self,
        jobs: impl IntoIterator<Item = (JobSpec, Option<String>)>,
    ) -> Result<Vec<Result<(JobId, bool), ClientError>>, ClientError> {
        use api::submit_result::Result as Submitted;
        let jobs = jobs.into_iter().map(|(spec, key)| api::SubmitRequest { spec: Some((&spec).into()), key });
        let request = api::SubmitBatchRequest { jobs: jobs.collect() };
        let answer = self.api.submit_batch(request).await.map_err(|status| self.sorted(status))?.into_inner();
        let results = answer.results.into_iter().map(|result| match result.result {
            Some(Submitted::Submitted(taken)) => Ok((JobId(taken.job), taken.existing)),
            Some(Submitted::Refused(refused)) => Err(self.sorted(Status::new(refused.code.into(), refused.message))),
            None => Err(ClientError::Fault("a submission without an answer".to_owned())),
        });
        Ok(results.collect())
    }

    /// The job now, and again after each change, until it has ended. With what another watch of it told last, at whichever coordinator,
    /// this one goes on from there.
    ///
    /// # Errors
    /// When the job is unknown, or nobody answers.
    pub async fn watch_job(
        &mut self,
        job: JobId,
        last: Option<&api::WatchJobResponse>,
    ) -> Result<Streaming<api::WatchJobResponse>, ClientError> {
        let request = api::WatchJobRequest {
            job: job.0,
            after_revision: last.map(|last| last.revision),
            after_epoch: last.map_or(0, |last| last.epoch),
        };
        Ok(self.api.watch_job(request).await.map_err(|status| self.sorted(status))?.into_inner())
    }

    /// Log frames of one attempt.
    ///
    /// # Errors
    /// When there is no such attempt, or its node cannot be asked.
    pub async fn logs(&mut self, request: api::LogsRequest) -> Result<Streaming<api::LogsResponse>, ClientError> {
        Ok(self.api.logs(request).await.map_err(|status| self.sorted(status))?.into_inner())
    }

    /// Runs a command beside a running task.
    ///
    /// # Errors
    /// When the task does not run, or its node cannot be asked.
    pub async fn exec(
        &mut self,
        requests: impl tokio_stream::Stream<Item = api::ExecRequest> + Send + 'static,
    ) -> Result<Streaming<api::ExecResponse>, ClientError> {
        Ok(self.api.exec(requests).await.map_err(|status| self.sorted(status))?.into_inner())
    }

    /// What a status means, for this client.
    pub fn sorted(&self, status: Status) -> ClientError {
        ClientError::from_status(&self.endpoint.to_string(), status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_next_coordinator_lacks_is_sent_again_and_not_for_ever() {
        let mut client = Client::new(Endpoint::socket("/nowhere/api.sock"));
        let (mut uploads, mut asked) = (0, 0);
        let upload = async |_: &mut Client| {
            uploads += 1;
            Ok(())
        };
        let ask = async |_: &mut Client| {
            asked += 1;
            if asked < 3 { Err(ClientError::NotStored("lost with its coordinator".to_owned())) } else { Ok(asked) }
        };
        assert_eq!(client.stored_first(upload, ask).await.unwrap(), 3);
        assert_eq!(uploads, 3);
        let never = async |_: &mut Client| Err::<(), _>(ClientError::NotStored("never".to_owned()));
        let refused = client.stored_first(async |_: &mut Client| Ok(()), never).await;
        assert!(matches!(refused, Err(ClientError::NotStored(_))), "{refused:?}");
    }

    #[test]
    fn the_refusal_that_an_upload_mends_is_told_from_others() {
        let status = flowyard_proto::status::not_stored("upload them".to_owned());
        assert!(matches!(ClientError::from_status("", status), ClientError::NotStored(_)));
        let other = Status::failed_precondition("no");
        assert!(matches!(ClientError::from_status("", other), ClientError::Refused(_)));
    }
}
