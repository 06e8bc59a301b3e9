//! Several submissions in one call: checked beside each other, proposed in order without waiting for the ones before, so that they
//! share the log's barriers.

use flowyard_model::limits;
use flowyard_proto::api::submit_result::Result as Submitted;
use flowyard_proto::api::{SubmitBatchRequest, SubmitBatchResponse, SubmitRefusal, SubmitResult};
use futures::StreamExt;
use tonic::{Code, Status};

use super::submit;
use crate::coordinator::Shared;
use crate::standing::Standing;

/// How many are checked at once.
const CHECKS: usize = 32;

/// Takes the jobs that can be taken, and says of each what came of it.
pub(super) async fn submit_batch(
    shared: &Shared,
    standing: &Standing,
    batch: SubmitBatchRequest,
) -> Result<SubmitBatchResponse, Status> {
    if batch.jobs.len() > limits::JOBS_PER_BATCH {
        return Err(Status::invalid_argument(format!(
            "jobs: {} in one call, and at most {} are taken; send them in parts",
            batch.jobs.len(),
            limits::JOBS_PER_BATCH
        )));
    }
    let checks = futures::stream::iter(batch.jobs).map(|job| submit::checked(shared, standing, job));
    let checked: Vec<_> = checks.buffered(CHECKS).collect().await;
    standing.about(&format!("a batch of {} jobs", checked.len()));
    let under_way = shared.shedder.begin(checked.len())?;
    let answers = checked.into_iter().map(async |command| match command {
        Ok(command) => submit::propose(shared, &command).await,
        Err(refused) => Err(refused),
    });
    let answers = futures::future::join_all(answers).await;
    drop(under_way);
    // What came of some is not known: the call is made again as a whole, and its keys keep what was taken from being taken twice.
    let unknown =
        answers.iter().find_map(|answer| answer.as_ref().err().filter(|status| status.code() == Code::Unavailable));
    if let Some(status) = unknown {
        return Err(status.clone());
    }
    let results = answers.into_iter().map(|answer| SubmitResult {
        result: Some(match answer {
            Ok(submitted) => Submitted::Submitted(submitted),
            Err(status) => {
                let (code, message) = (i32::from(status.code()), status.message().to_owned());
                Submitted::Refused(SubmitRefusal { code, message })
            }
        }),
    });
    Ok(SubmitBatchResponse { results: results.collect() })
}
