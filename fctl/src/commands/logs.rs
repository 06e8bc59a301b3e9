//! `fctl logs`: what one task wrote.

use std::process::ExitCode;

use flowyard_proto::api;
use flowyard_sdk::client::Client;

use super::Outcome;
use crate::asking::asking;
use crate::cli::{Global, Logs};
use crate::failure::Failure;
use crate::log_printer::{LogPrinter, Style};
use crate::{output, target};

pub(super) use crate::follow::follow_job;

pub(super) async fn run(global: &Global, logs: &Logs) -> Outcome {
    asking(global, async |client| print(client, logs).await).await?;
    Ok(ExitCode::SUCCESS)
}

async fn print(client: &mut Client, logs: &Logs) -> Result<(), Failure> {
    let target = target::find(client, &logs.reference).await?;
    let at = target.one_task()?;
    let attempt = logs.reference.attempt.map(|attempt| attempt.0);
    let style = match (output::is_json(), logs.timestamps) {
        (true, _) => Style::Json { task: target.task_reference(at), attempt },
        (false, true) => Style::Lines { label: String::new(), timestamps: true },
        (false, false) => Style::Raw,
    };
    let request = api::LogsRequest {
        job: target.job_id().0,
        step: at.step,
        task: at.task,
        attempt,
        rank: logs.reference.rank.map_or(0, |rank| rank.0),
        stdout: !logs.stderr,
        stderr: !logs.stdout,
        follow: logs.follow,
        tail_lines: logs.tail,
    };
    let mut frames = client.logs(request).await?;
    let mut printer = LogPrinter::new(style);
    while let Some(frame) = frames.message().await.map_err(|status| client.sorted(status))? {
        printer.print(&frame);
    }
    printer.finish();
    Ok(())
}
