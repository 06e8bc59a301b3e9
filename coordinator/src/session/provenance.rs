//! Where the blobs that an agent reports come from: what it names becomes readable with the job, so it must be the agent's own to give.
//!
//! An agent gives what it has uploaded, or what its allocations let it read. A report that names anything else is believed about
//! everything but that: the attempt ends as not having stored what it wrote.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_cas::StoreError;
use flowyard_model::{AttemptOutcome, AttemptReport, Blame, Digest, End, Logs, Reason, limits};
use tonic::Status;

use crate::access::Caller;
use crate::coordinator::Shared;
use crate::fleet::not_usable_anywhere;
use crate::standing::Standing;

/// The reports as they may be put into the log.
///
/// # Errors
/// When the store cannot be read; the agent says everything again.
pub(super) async fn believed(
    shared: &Shared,
    standing: &Standing,
    mut reports: Vec<AttemptReport>,
) -> Result<Vec<AttemptReport>, Status> {
    if !matches!(standing.caller, Caller::Agent { .. }) {
        return Ok(reports);
    }
    for report in &mut reports {
        // What names nothing gives nothing; most ends of short tasks are such.
        let names = |end: &Arc<End>| !end.outputs.is_empty() || end.logs != Logs::NONE;
        let Some(end) = report.end.clone().filter(names) else { continue };
        let judged = judge(shared, standing, &end).await?;
        if judged != *end {
            tracing::warn!(caller = %standing.caller, member = ?report.member, message = judged.message, "an agent's report names what is not its own to give");
            report.end = Some(Arc::new(judged));
        }
    }
    Ok(reports)
}

/// The end as it is believed.
async fn judge(shared: &Shared, standing: &Standing, end: &End) -> Result<End, Status> {
    let of_outputs = match named_by_outputs(shared, end).await? {
        Ok(named) => named,
        Err(fault) => return Ok(not_stored(end, format!("an output cannot be used: {fault}"))),
    };
    let of_logs = [end.logs.stdout, end.logs.stderr].into_iter().flatten();
    let named: BTreeSet<Digest> = of_outputs.iter().copied().chain(of_logs).collect();
    let (named, view) = (named.into_iter().collect::<Vec<_>>(), shared.feed.view());
    let left = shared.readable.not_usable(&view, &shared.durable, &standing.caller, &named).await;
    let left = left.map_err(|error| unavailable(&error))?.into_iter().collect();
    let foreign = not_usable_anywhere(shared, standing, left).await;
    let own = |log: Option<Digest>| log.filter(|digest| !foreign.contains(digest));
    let logs = Logs { stdout: own(end.logs.stdout), stderr: own(end.logs.stderr) };
    let end = End { logs, ..end.clone() };
    if foreign.iter().any(|digest| of_outputs.contains(digest)) {
        let why = "the cluster does not know that its node stored what it wrote; it is tried again";
        return Ok(not_stored(&end, why.to_owned()));
    }
    Ok(end)
}

/// All blobs that the outputs name, or what is wrong with one of them.
async fn named_by_outputs(shared: &Shared, end: &End) -> Result<Result<BTreeSet<Digest>, String>, Status> {
    let mut named = BTreeSet::new();
    for output in end.outputs.values() {
        named.insert(output.manifest);
        named.extend(output.list.map(|list| list.items));
        match shared.readable.listed_by(&shared.durable, output.manifest).await {
            Ok(listed) => named.extend(listed.iter()),
            Err(error) if error.is_missing() || matches!(error.cause(), StoreError::Manifest { .. }) => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Ok(Ok(named))
}

fn unavailable(error: &StoreError) -> Status {
    Status::unavailable(format!("what was reported: {error}"))
}

/// The same end of an attempt that did not store what it wrote.
fn not_stored(end: &End, message: String) -> End {
    End {
        outcome: AttemptOutcome::Failed,
        reason: Reason::Output,
        blame: Blame::Platform,
        message: message.chars().take(limits::MESSAGE_BYTES / 4).collect(),
        outputs: [].into(),
        ..end.clone()
    }
}
