//! `fctl submit`: package, upload, submit; and, if wished, wait.

use std::process::ExitCode;

use flowyard_proto::api;

use super::{Outcome, wait};
use crate::cli::{Global, Submit};
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::Failure;
use crate::{output, submission};

pub(super) async fn run(global: &Global, submit: Submit) -> Outcome {
    let (mut spec, packing) = submission::prepare(&submit)?;
    let mut connection = Connection::open(global, Parts::All).await?;
    let submitted = async {
        let cluster = connection.client.get_cluster(api::GetClusterRequest {}).await?;
        if cluster.embedded {
            submission::inherit(&mut spec);
        }
        submission::upload(&mut connection.client, packing).await?;
        Ok::<_, Failure>(connection.client.submit(&spec, submit.key.clone()).await?)
    };
    let (job, existing) = match submitted.await {
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
