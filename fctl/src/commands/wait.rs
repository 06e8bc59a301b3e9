//! `fctl wait`, and waiting after a submit: progress or logs while the job runs, then its end as an exit code.

use std::process::ExitCode;

use flowyard_model::JobId;
use flowyard_proto::api;
use flowyard_sdk::client::ClientError;

use super::{Outcome, logs};
use crate::cli::{Global, Wait};
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::{Failure, codes};
use crate::progress::Progress;
use crate::signals::{Stop, Stops};
use crate::{ending, output};

/// How to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Print what tasks write.
    pub follow: bool,
    /// Cancel when interrupted.
    pub cancel_on_interrupt: bool,
    /// Ask when interrupted: the cluster ends with this command.
    pub ask_on_interrupt: bool,
}

pub(super) async fn run(global: &Global, wait: &Wait) -> Outcome {
    let mut connection = Connection::open(global, Parts::All).await?;
    let how = How {
        follow: wait.follow,
        cancel_on_interrupt: wait.cancel_on_interrupt,
        ask_on_interrupt: connection.is_local(),
    };
    let outcome = until_end(&mut connection, wait.job, how).await;
    connection.close().await;
    outcome
}

/// What happened while waiting.
enum Event {
    Ended(Box<api::Job>),
    Stop(Stop),
}

/// Waits until the job has ended, and says how.
///
/// # Errors
/// When the job is unknown or the cluster is lost for good.
pub(super) async fn until_end(connection: &mut Connection, job: JobId, how: How) -> Outcome {
    let mut stops = Stops::hear()?;
    let mut progress = match how.follow {
        true => Progress::silent(),
        false => Progress::new(&connection.client, job.0),
    };
    let follower = how.follow.then(|| tokio::spawn(logs::follow_job(connection.client.clone(), job)));
    let mut cancelled = false;
    let ended = loop {
        match follow(connection, job, &mut progress, &mut stops).await {
            Ok(Event::Ended(ended)) => break ended,
            Ok(Event::Stop(stop)) => match interrupted(job, how, stop, cancelled).await {
                Interruption::Cancel => {
                    cancelled = true;
                    connection.persist(async |client| client.cancel(api::CancelRequest { job: job.0 }).await).await?;
                    output::note(format!("cancelling job {job}; its tasks get their grace period"));
                }
                Interruption::GoOn => {}
                Interruption::Detach => return Ok(ExitCode::from(codes::DETACHED)),
            },
            Err(Failure::Client(error)) if error.is_unavailable() => {
                if !connection.reopen().await? {
                    return Err(error.into());
                }
                if !how.follow {
                    progress = Progress::new(&connection.client, job.0);
                }
            }
            Err(failure) => return Err(failure),
        }
    };
    progress.finish();
    if let Some(follower) = follower {
        // What was printed last is on its way.
        let _ = follower.await;
    }
    loop {
        match ending::tell(connection, &ended).await {
            // Whoever ran the cluster may have left at this very moment.
            Err(Failure::Client(error)) if error.is_unavailable() && connection.reopen().await? => {}
            told => return told,
        }
    }
}

/// Follows the job until it ends or the user interrupts.
async fn follow(
    connection: &mut Connection,
    job: JobId,
    progress: &mut Progress,
    stops: &mut Stops,
) -> Result<Event, Failure> {
    let mut changes = connection.client.watch_job(job, None).await?;
    loop {
        tokio::select! {
            change = changes.message() => {
                let change = change.map_err(|status| connection.client.sorted(status))?;
                let Some(change) = change else {
                    return Err(ClientError::Unavailable("the watch ended before the job".to_owned()).into());
                };
                progress.update(&change);
                if let Some(job) = change.job.filter(|job| job.row.as_ref().is_some_and(|row| row.ended_ms.is_some())) {
                    return Ok(Event::Ended(Box::new(job)));
                }
            }
            () = progress.tick() => {}
            stop = stops.next() => return Ok(Event::Stop(stop)),
        }
    }
}

enum Interruption {
    Cancel,
    GoOn,
    Detach,
}

async fn interrupted(job: JobId, how: How, stop: Stop, cancelled: bool) -> Interruption {
    if cancelled {
        return Interruption::GoOn;
    }
    if how.cancel_on_interrupt {
        return Interruption::Cancel;
    }
    if !how.ask_on_interrupt {
        output::note(format!(
            "detached: job {job} goes on; cancel it with `fctl cancel {job}`, or wait again with `fctl wait {job}`"
        ));
        return Interruption::Detach;
    }
    // The cluster lives in this process, so the job cannot go on without it.
    if stop == Stop::Told || !output::is_terminal() {
        return Interruption::Cancel;
    }
    let question = format!("cancel job {job}? Otherwise it goes on.");
    let asked =
        tokio::task::spawn_blocking(move || dialoguer::Confirm::new().with_prompt(question).default(true).interact());
    match asked.await {
        Ok(Ok(false)) => Interruption::GoOn,
        _ => Interruption::Cancel,
    }
}
