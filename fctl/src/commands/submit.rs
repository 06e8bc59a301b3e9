//! `fctl submit`: package, upload, submit; and, if wished, wait.

use std::process::ExitCode;
use std::time::Duration;

use flowyard_model::{JobId, JobSpec};
use flowyard_proto::api;
use flowyard_sdk::client::{Client, ClientError, fresh_key, parts};
use flowyard_sdk::flow::Packing;
use flowyard_telemetry::traces::TraceId;
use serde_json::json;

use super::{Outcome, dry_run, wait};
use crate::cli::{Global, Submit};
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::Failure;
use crate::{output, submission, text, traced};

pub(super) async fn run(global: &Global, submit: Submit) -> Outcome {
    if !submit.batch.is_empty() {
        return batch(global, &submit).await;
    }
    if submit.dry_run {
        return dry_run::run(global, &submit).await;
    }
    let exporter = traced::exporter(submit.otlp.as_deref(), "fctl")?;
    let began_us = flowyard_clock::wall_us();
    let (spec, packing) = submission::prepare(&submit, submit.flow.as_deref())?;
    let mut connection = Connection::open(global, Parts::All).await?;
    let (job, existing) = match send(&mut connection, &spec, packing, submit.key.clone()).await {
        Ok(submitted) => submitted,
        Err(error) => {
            connection.close().await;
            return Err(error);
        }
    };
    let submitted_us = flowyard_clock::wall_us();
    let exporter = exporter.filter(|_| !existing);
    let cluster = match submit.trace || exporter.is_some() {
        true => cluster_of(&mut connection).await,
        false => None,
    };
    let trace = cluster.as_ref().filter(|_| submit.trace).map(|cluster| TraceId::of_job(cluster, job.0).to_string());
    if output::is_json() {
        let mut submitted = json!({ "job": job.0, "existing": existing });
        if let Some(trace) = trace {
            submitted["trace"] = json!(trace);
        }
        output::json(&submitted);
    } else {
        trace.iter().for_each(|trace| output::note(format!("trace {trace}")));
        let again = if existing { " (submitted before with this key)" } else { "" };
        output::note(format!("job {job} `{}`{again}", spec.name));
    }
    if let (Some(exporter), Some(cluster)) = (exporter, &cluster) {
        traced::submitted(&exporter, cluster, job, (began_us, submitted_us)).await;
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

/// The cluster's id, which the ids of traces follow from. The job is submitted: it is not for this that the command fails.
async fn cluster_of(connection: &mut Connection) -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let asked = tokio::time::timeout(PATIENCE, connection.client.get_cluster(api::GetClusterRequest {})).await;
    match asked {
        Ok(Ok(cluster)) => return Some(cluster.id),
        Ok(Err(error)) => output::warning(format!("the job is submitted, and its trace is not known: {error}")),
        Err(_) => {
            output::warning("the job is submitted, and its trace is not known: the cluster was slow to say its id")
        }
    }
    None
}

/// Submits several flow files, in as few calls as there may be.
async fn batch(global: &Global, submit: &Submit) -> Outcome {
    if global.local {
        return Err(Failure::Usage(
            "--batch waits for nothing, and a cluster of --local ends with its command; start `fctl dev`, and leave --local out"
                .to_owned(),
        ));
    }
    let prepared = submit.batch.iter().map(|file| submission::prepare(submit, Some(file)));
    let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
    let mut connection = Connection::open(global, Parts::Coordinator).await?;
    let results = send_all(&mut connection, prepared).await;
    connection.close().await;
    let mut refused = 0;
    for (file, result) in submit.batch.iter().zip(results?) {
        match &result {
            Ok((job, _)) if output::is_json() => output::json(&json!({ "file": file, "job": job.0 })),
            Ok((job, _)) => output::line(format!("job {job}  {}", file.display())),
            Err(error) if output::is_json() => output::json(&json!({ "file": file, "error": error.to_string() })),
            Err(error) => output::warning(format!("{}: {error}", file.display())),
        }
        refused += u64::from(result.is_err());
    }
    match refused {
        0 => Ok(ExitCode::SUCCESS),
        some => {
            Err(ClientError::Refused(format!("{} of {} refused", some, text::count(submit.batch.len() as u64, "flow")))
                .into())
        }
    }
}

type Results = Vec<Result<(JobId, bool), ClientError>>;

async fn send_all(connection: &mut Connection, prepared: Vec<(JobSpec, Packing)>) -> Result<Results, Failure> {
    let cluster = connection.persist(async |client| client.get_cluster(api::GetClusterRequest {}).await).await?;
    let (mut jobs, mut blobs) = (Vec::new(), std::collections::BTreeMap::new());
    for (mut spec, packing) in prepared {
        if cluster.embedded {
            submission::inherit(&mut spec);
        }
        submission::tell(&packing);
        blobs.extend(submission::blobs(packing));
        jobs.push((spec, Some(fresh_key())));
    }
    if !blobs.is_empty() {
        connection.persist(async |client: &mut Client| client.upload(blobs.clone()).await).await?;
    }
    let mut results = Vec::new();
    for part in parts(jobs) {
        results.extend(connection.persist(async |client: &mut Client| client.submit_batch(part.clone()).await).await?);
    }
    Ok(results)
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
