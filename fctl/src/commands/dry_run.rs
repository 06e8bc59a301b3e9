//! `fctl submit --dry-run`: what would come of a submission.

use std::process::ExitCode;

use flowyard_proto::api;
use flowyard_sdk::client::Client;
use serde_json::json;

use super::{Outcome, why};
use crate::asking::same_cluster;
use crate::cli::{Global, Submit};
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::{output, submission};

pub(super) async fn run(global: &Global, submit: &Submit) -> Outcome {
    let (spec, packing) = submission::prepare(submit, submit.flow.as_deref())?;
    let brought: Vec<_> = submission::blobs(packing).into_keys().collect();
    let mut connection = Connection::open(global, Parts::All).await?;
    let (key, name) = (submit.key.clone(), spec.name.to_string());
    let answer = connection
        .persist(async |client: &mut Client| {
            let mut spec = spec.clone();
            if client.get_cluster(api::GetClusterRequest {}).await?.embedded {
                submission::inherit(&mut spec);
            }
            client.dry_run(&spec, key.clone(), brought.clone()).await
        })
        .await;
    connection.close().await;
    let answer = answer?;
    if output::is_json() {
        let findings: Vec<_> = answer.findings.iter().map(why::as_json).collect();
        let existing = answer.existing;
        output::json(&json!({ "findings": findings, "existing": existing, "revision": answer.revision }));
        return Ok(ExitCode::SUCCESS);
    }
    match answer.existing {
        Some(job) => output::line(format!("job {job} was submitted with this key before; it would be the answer")),
        None => output::note(format!("`{name}` would be taken; nothing was submitted")),
    }
    for finding in &answer.findings {
        for line in why::lines(finding, &same_cluster(global)) {
            output::line(line);
        }
    }
    Ok(ExitCode::SUCCESS)
}
