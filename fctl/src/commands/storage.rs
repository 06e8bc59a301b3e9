//! `fctl storage`: what is kept and how large it is; or forgets ended jobs, and frees what only they kept.

use std::process::ExitCode;

use flowyard_proto::api;
use serde_json::json;

use super::{Outcome, log_segments};
use crate::asking::asking;
use crate::cli::{Global, Storage};
use crate::table::{Table, cell};
use crate::{output, text};

/// Jobs that a prune names at most; the rest is counted.
const LISTED: usize = 20;

pub(super) async fn run(global: &Global, storage: &Storage) -> Outcome {
    match storage.prune_older_than {
        None => show(global).await,
        Some(age_ms) => prune(global, storage, age_ms).await,
    }
}

async fn show(global: &Global) -> Outcome {
    let (kept, cluster) = asking(global, async |client| {
        let kept = client.get_storage(api::GetStorageRequest {}).await?;
        Ok((kept, client.get_cluster(api::GetClusterRequest {}).await?))
    })
    .await?;
    if output::is_json() {
        output::json(&json!({
            "origin_bytes": kept.origin_bytes,
            "origin_blobs": kept.origin_blobs,
            "log_bytes": kept.log_bytes,
            "snapshot_bytes": kept.snapshot_bytes,
            "jobs": kept.jobs,
            "jobs_active": kept.jobs_active,
            "retention_ms": kept.retention_ms,
            "budget_bytes": kept.budget_bytes,
            "archived_jobs": kept.archived_jobs,
            "archive_ms": kept.archive_ms,
            "segments": kept.segments.iter().map(log_segments::as_json).collect::<Vec<_>>(),
            "unsealed_entries": kept.unsealed_entries,
            "home": cluster.home,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::bare();
    if cluster.embedded {
        table.row([cell("home"), cell(""), cell(&cluster.home)]);
    }
    let blobs = text::count(kept.origin_blobs, "blob");
    table.row([cell("artifacts, code, logs"), cell(text::size(kept.origin_bytes)), cell(blobs)]);
    table.row([cell("log"), cell(text::size(kept.log_bytes)), cell("")]);
    table.row([cell("snapshot"), cell(text::size(kept.snapshot_bytes)), cell("")]);
    table.row([cell("jobs"), cell(kept.jobs.to_string()), cell(format!("{} active", kept.jobs_active))]);
    table.row([cell("archived jobs"), cell(kept.archived_jobs.to_string()), cell(archive(&kept))]);
    table.row([cell("sealed log"), cell(log_segments::size(&kept)), cell(log_segments::summary(&kept))]);
    table.print();
    output::line(keeping(&kept));
    Ok(ExitCode::SUCCESS)
}

fn archive(kept: &api::Storage) -> String {
    match kept.archive_ms {
        0 => "forgotten jobs are not archived".to_owned(),
        ms => format!("kept for {} after they are forgotten; fctl jobs --archived", text::duration(ms)),
    }
}

fn keeping(kept: &api::Storage) -> String {
    let days = text::duration(kept.retention_ms);
    let budget = match kept.budget_bytes {
        0 => "there is no budget for their size".to_owned(),
        bytes => format!("earlier, oldest first, when more than {} is kept", text::size(bytes)),
    };
    format!("ended jobs are forgotten after {days} (unless their flow says otherwise); {budget}")
}

async fn prune(global: &Global, storage: &Storage, age_ms: u64) -> Outcome {
    let request = api::PruneRequest {
        ended_before_ms: Some(flowyard_clock::wall_ms().saturating_sub(age_ms)),
        keep: storage.keep,
        dry_run: storage.dry_run,
    };
    let pruned = asking(global, async |client| Ok(client.prune(request).await?)).await?;
    if output::is_json() {
        output::json(&json!({
            "jobs": pruned.jobs,
            "dry_run": storage.dry_run,
            "freed_bytes": pruned.freed_bytes,
            "freed_blobs": pruned.freed_blobs,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let jobs = text::count(pruned.jobs.len() as u64, "job");
    let names = names(&pruned.jobs);
    if storage.dry_run {
        output::line(format!("would forget {jobs}{names}"));
        return Ok(ExitCode::SUCCESS);
    }
    let freed = text::size(pruned.freed_bytes);
    output::line(format!("forgot {jobs}{names}; freed {freed} in {}", text::count(pruned.freed_blobs, "blob")));
    output::note("what was stored within the last day is freed later, in case a submission is under way that needs it");
    Ok(ExitCode::SUCCESS)
}

fn names(jobs: &[u64]) -> String {
    if jobs.is_empty() {
        return String::new();
    }
    let listed: Vec<_> = jobs.iter().take(LISTED).map(ToString::to_string).collect();
    let rest = jobs.len() - listed.len();
    let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!(": {}{rest}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_jobs_is_cut_and_counted() {
        assert_eq!(names(&[]), "");
        assert_eq!(names(&[3, 4]), ": 3, 4");
        let many: Vec<u64> = (0..25).collect();
        assert!(names(&many).ends_with(", 19 and 5 more"), "{}", names(&many));
    }
}
