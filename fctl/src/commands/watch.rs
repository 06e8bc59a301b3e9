//! `fctl watch`: a job as it goes, until it has ended.

use std::process::ExitCode;

use flowyard_model::JobId;
use flowyard_proto::api;
use flowyard_sdk::client::ClientError;

use super::{Outcome, show};
use crate::cli::Global;
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::table::{paint, tone_of};
use crate::{output, record, text};

pub(super) async fn run(global: &Global, job: JobId) -> Outcome {
    let mut connection = Connection::open(global, Parts::Coordinator).await?;
    let watched = until_end(&mut connection, job).await;
    connection.close().await;
    let ended = watched?;
    if let (Some(row), false) = (&ended.row, output::is_json()) {
        let state = text::job_state(row.state());
        let took = row.ended_ms.unwrap_or(0).saturating_sub(row.submitted_ms);
        output::line(format!("job {job} {} in {}", paint(state, tone_of(state)), text::duration(took)));
    }
    Ok(ExitCode::SUCCESS)
}

async fn until_end(connection: &mut Connection, job: JobId) -> Result<api::Job, Failure> {
    let (mut headed, mut last) = (false, None);
    loop {
        match follow(connection, job, &mut headed, &mut last).await {
            Err(Failure::Client(error)) if error.is_unavailable() => {
                if !connection.reopen().await? {
                    return Err(error.into());
                }
            }
            other => return other,
        }
    }
}

/// Goes on from what was told last, so that programs read no change twice.
async fn follow(
    connection: &mut Connection,
    job: JobId,
    headed: &mut bool,
    last: &mut Option<api::WatchJobResponse>,
) -> Result<api::Job, Failure> {
    let mut changes = connection.client.watch_job(job, last.as_ref()).await?;
    let mut progress = Progress::new(&connection.client, job.0);
    loop {
        let change = tokio::select! {
            change = changes.message() => change.map_err(|status| connection.client.sorted(status))?,
            () = progress.tick() => continue,
        };
        let Some(change) = change else {
            return Err(ClientError::Unavailable("the watch ended before the job".to_owned()).into());
        };
        let Some(now) = &change.job else { continue };
        tell(now, &change.active, headed);
        progress.update(&change);
        if now.row.as_ref().is_some_and(|row| row.ended_ms.is_some()) {
            progress.finish();
            return Ok(now.clone());
        }
        // A cluster of the first release does not say where the watch is.
        if change.revision > 0 {
            *last = Some(change);
        }
    }
}

/// The header, once; for programs, every change.
fn tell(job: &api::Job, active: &[api::Task], headed: &mut bool) {
    if output::is_json() {
        let row = job.row.clone().unwrap_or_default();
        let mut answer = serde_json::to_value(record::job(job, &row)).unwrap_or_default();
        answer["active"] = active.iter().map(|task| serde_json::json!(record::task(job, task))).collect();
        output::json(&answer);
    } else if !*headed {
        show::print_header(job);
        *headed = true;
    }
}
