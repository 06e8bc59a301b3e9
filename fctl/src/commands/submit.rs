//! `fctl submit`: package, upload, submit; and, if wished, wait.

use std::process::ExitCode;

use flowyard_model::{JobId, JobSpec};
use flowyard_proto::api;
use flowyard_sdk::client::{Client, fresh_key};
use flowyard_sdk::flow::Packing;

use super::{Outcome, wait};
use crate::cli::{Global, Submit};
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::Failure;
use crate::{output, submission};

pub(super) async fn run(global: &Global, submit: Submit) -> Outcome {
    let (spec, packing) = submission::prepare(&submit)?;
    let mut connection = Connection::open(global, Parts::All).await?;
    let (job, existing) = match send(&mut connection, &spec, packing, submit.key.clone()).await {
        Ok(submitted) => submitted,
        Err(error) => {
            connection.close().await;
            return Err(error);
        }
    };
    if output::is_json() {
        output::json(&serde_json::json!({ "job": job.0, "existing": existing }));
    } else {
        let again = if existing { " (submitted before with this key)" } else { "" };
        output::note(format!("job {job} `{}`{again}", spec.name));
    }
    let waits = submit.waiting.wait || submit.waiting.follow || connection.is_local();
    if !waits {
        if !output::is_json() {
            output::note(format!("follow it with `fctl watch {job}`, or wait for its end with `fctl wait {job}`"));
        }
        connection.close().await;
        return Ok(ExitCode::SUCCESS);
    }
    let how = wait::How {
        follow: submit.waiting.follow,
        cancel_on_interrupt: submit.waiting.cancel_on_interrupt,
        ask_on_interrupt: connection.is_local(),
    };
    let outcome = wait::until_end(&mut connection, job, how).await;
    connection.close().await;
    outcome
}

/// Uploads and submits; again from the beginning when the cluster is taken over meanwhile. Whether the job was there before.
async fn send(
    connection: &mut Connection,
    spec: &JobSpec,
    packing: Packing,
    key: Option<String>,
) -> Result<(JobId, bool), Failure> {
    let cluster = connection.persist(async |client| client.get_cluster(api::GetClusterRequest {}).await).await?;
    let mut spec = spec.clone();
    if cluster.embedded {
        submission::inherit(&mut spec);
    }
    submission::tell(&packing);
    let blobs = submission::blobs(packing);
    // Without a key of its own a job that is sent twice would run twice.
    let sent_as = key.clone().unwrap_or_else(fresh_key);
    let send = async |client: &mut Client| client.submit_with(&spec, Some(sent_as.clone()), &blobs).await;
    let (job, existing) = connection.persist(send).await?;
    Ok((job, existing && key.is_some()))
}
