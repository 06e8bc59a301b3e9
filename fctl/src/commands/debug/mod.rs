//! `fctl debug bundle`: what the parts of the cluster say of themselves, in one file for whoever looks for a fault.
//!
//! Whatever cannot be had is said in the bundle and does not keep the rest out of it: it is wanted most when much is down.

mod scrub;

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use flate2::Compression;
use flate2::write::GzEncoder;
use flowyard_proto::api;
use flowyard_proto::cluster::read_audit_response::Said;
use flowyard_proto::cluster::{GetStatusRequest, ReadAuditRequest};
use flowyard_sdk::client::{Client, ClientError};
use serde_json::json;

use super::{Outcome, audit, cluster, nodes};
use crate::cli::Global;
use crate::cli::debug::{Bundle, Debug};
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::Failure;
use crate::{output, record};

/// Entries of who did what, at most; the newest.
const ENTRIES: usize = 10_000;
/// Jobs that are listed: the newest.
const JOBS: u32 = 1_000;

const HEAD: &str = "\
A debug bundle of a Flowyard cluster: what its parts say of themselves.

cluster/        status, nodes and the newest jobs, as `fctl -o json` prints them
coordinators/N/ about.json, settings.txt, state.json (counts), metrics.txt, log.jsonl (the newest lines of its log)
agents/NAME/    settings.txt, inventory.txt, metrics.txt, log.jsonl, launcher.log
audit.jsonl     who did what
fctl.json       the program that made this

There is no secret, token, key, parameter, variable or output of a task in it. Names of jobs, people, queues and machines are.
";

/// The files of a bundle, and what is missing.
#[derive(Default)]
struct Gathered {
    files: Vec<(PathBuf, Vec<u8>)>,
    missing: Vec<String>,
}

pub(super) async fn run(global: &Global, debug: Debug) -> Outcome {
    let Debug::Bundle(asked) = debug;
    let path =
        asked.file.clone().unwrap_or_else(|| format!("flowyard-bundle-{}.tar.gz", flowyard_clock::wall_ms()).into());
    if path.exists() && !asked.overwrite {
        return Err(Failure::Usage(format!("{} is there already; --overwrite replaces it", path.display())));
    }
    let mut gathered = Gathered::default();
    gathered.add("fctl.json", &format!("{:#}\n", about_this(global)));
    match Connection::open(global, Parts::Coordinator).await {
        Ok(mut connection) => {
            gather(&mut connection.client, &asked, &mut gathered).await;
            connection.close().await;
        }
        // Nobody to ask: then that is what is to be known.
        Err(failure) => gathered.lacks("cluster", &failure.to_string()),
    }
    write(&path, &mut gathered)?;
    for line in &gathered.missing {
        output::note(format!("missing: {}", crate::text::harmless(line)));
    }
    if output::is_json() {
        output::json(&json!({ "file": path, "files": gathered.files.len(), "missing": gathered.missing }));
    } else {
        output::line(format!("wrote {} ({} files)", path.display(), gathered.files.len()));
    }
    Ok(ExitCode::SUCCESS)
}

impl Gathered {
    /// Adds a file, without what nobody may read.
    fn add(&mut self, path: &str, text: &str) {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if plain {
            self.files.push((path.into(), scrub::scrub(text).into_bytes()));
        }
    }

    fn lacks(&mut self, what: &str, why: &str) {
        self.missing.push(scrub::scrub(&format!("{what}: {why}")));
    }

    /// Adds an answer, or says why there is none.
    fn add_answer(&mut self, path: &str, answer: Result<String, ClientError>) {
        match answer {
            Ok(text) => self.add(path, &text),
            Err(error) => self.lacks(path, &error.to_string()),
        }
    }
}

fn about_this(global: &Global) -> serde_json::Value {
    let told = rustix::system::uname();
    json!({
        "release": env!("CARGO_PKG_VERSION"), "at_ms": flowyard_clock::wall_ms(), "local": global.local,
        "system": format!("{} {}", told.sysname().to_string_lossy(), told.release().to_string_lossy()),
    })
}

async fn gather(client: &mut Client, asked: &Bundle, gathered: &mut Gathered) {
    let status = client.get_status(GetStatusRequest {}).await;
    gathered.add_answer("cluster/status.json", status.map(|status| format!("{:#}\n", cluster::as_json(&status))));
    let listed = client.list_nodes(api::ListNodesRequest {}).await;
    gathered.add_answer("cluster/nodes.json", listed.map(|answer| lines(answer.nodes.iter().map(nodes::as_json))));
    // Whoever answers: a bundle is wanted when nobody leads, too.
    let rows = client.stale().list_jobs(api::ListJobsRequest { limit: JOBS, ..Default::default() }).await;
    let rows = rows.map(|answer| lines(answer.jobs.iter().map(|row| json!(record::job_row(row)))));
    gathered.add_answer("cluster/jobs.json", rows);
    let entries = entries(client, asked.since, gathered).await;
    gathered.add_answer("audit.jsonl", entries);
    if let Err(error) = diagnose(client, gathered).await {
        gathered.lacks("coordinators and agents", &error.to_string());
    }
}

fn lines(values: impl Iterator<Item = serde_json::Value>) -> String {
    values.map(|value| format!("{value}\n")).collect()
}

async fn entries(client: &mut Client, since: u64, gathered: &mut Gathered) -> Result<String, ClientError> {
    let request = ReadAuditRequest { since_ms: flowyard_clock::wall_ms().saturating_sub(since), follow: false };
    let mut said = client.read_audit(request).await?;
    let mut entries = std::collections::VecDeque::new();
    while let Some(answer) = said.message().await.map_err(|status| client.sorted(status))? {
        match answer.said {
            Some(Said::Entry(entry)) => entries.push_back(audit::as_json(&entry)),
            Some(Said::SilentCoordinator(replica)) => {
                gathered.lacks("audit.jsonl", &format!("coordinator {replica} does not answer"));
            }
            None => {}
        }
        if entries.len() > ENTRIES {
            entries.pop_front();
        }
    }
    Ok(lines(entries.into_iter()))
}

async fn diagnose(client: &mut Client, gathered: &mut Gathered) -> Result<(), ClientError> {
    let mut said = client.diagnose().await?;
    while let Some(file) = said.message().await.map_err(|status| client.sorted(status))? {
        if file.missing.is_empty() {
            gathered.add(&file.path, &String::from_utf8_lossy(&file.content));
        } else {
            gathered.lacks(&file.path, &file.missing);
        }
    }
    Ok(())
}

/// Writes the archive, which its owner alone may read.
fn write(path: &Path, gathered: &mut Gathered) -> Result<(), Failure> {
    let failed = || Failure::local(path.display());
    let missing = match gathered.missing.is_empty() {
        true => "Nothing is missing.\n".to_owned(),
        false => format!("Missing:\n{}\n", gathered.missing.join("\n")),
    };
    gathered.files.insert(0, ("README.txt".into(), format!("{HEAD}\n{missing}").into_bytes()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed())?;
    // One that was there keeps its mode otherwise.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed())?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, content) in &gathered.files {
        let mut head = tar::Header::new_gnu();
        head.set_size(content.len() as u64);
        head.set_mode(0o600);
        head.set_mtime(flowyard_clock::wall_ms() / 1_000);
        let name = Path::new("flowyard-bundle").join(name);
        archive.append_data(&mut head, name, content.as_slice()).map_err(failed())?;
    }
    let mut file = archive.into_inner().and_then(GzEncoder::finish).map_err(failed())?;
    file.flush().map_err(failed())
}
