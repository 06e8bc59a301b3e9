//! `fctl cancel`.

use std::process::ExitCode;

use flowyard_model::JobId;
use flowyard_proto::api;
use flowyard_sdk::client::Client;
use serde_json::json;

use super::Outcome;
use crate::asking::same_cluster;
use crate::cli::Global;
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::{output, text};

pub(super) async fn run(global: &Global, job: JobId) -> Outcome {
    let mut connection = Connection::open(global, Parts::Coordinator).await?;
    let cancel = async |client: &mut Client| {
        let answer = client.cancel(api::CancelRequest { job: job.0 }).await?;
        Ok((answer.already_ended, client.get_job(api::GetJobRequest { job: job.0 }).await?))
    };
    let answer = connection.persist(cancel).await;
    connection.close().await;
    let (already_ended, now) = answer?;
    let row = now.row.unwrap_or_default();
    let active = row.tasks.unwrap_or_default().active;
    if output::is_json() {
        output::json(&json!({ "job": job.0, "already_ended": already_ended, "active": active }));
        return Ok(ExitCode::SUCCESS);
    }
    let state = text::job_state(row.state());
    let line = match (already_ended, active) {
        (true, _) => format!("job {job} had ended before: {state}"),
        (false, 0) => format!("job {job} is cancelled"),
        (false, active) => format!(
            "job {job} is being cancelled; {} gets its grace period; see `fctl show {job}{}`",
            text::count(active.into(), "running task"),
            same_cluster(global)
        ),
    };
    output::line(line);
    Ok(ExitCode::SUCCESS)
}
