//! `fctl artifact`: what tasks have written, listed, printed, fetched; and files of this machine stored.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use bytes::Bytes;
use flowyard_cas::{Entry, EntryKind, Manifest, RootLink, pack_path};
use flowyard_model::{Digest, JobId, Name};
use flowyard_proto::api;
use flowyard_sdk::client::{Client, ClientError, Source};
use flowyard_sdk::shown::nearest;
use serde_json::json;

use super::Outcome;
use crate::asking::{asking, same_cluster};
use crate::attempt_lines::short;
use crate::checkout;
use crate::cli::{Artifact, ArtifactCat, ArtifactGet, ArtifactPut, Global, OneReference};
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::target::{self, Target};
use crate::text::harmless;
use crate::{output, record, text};

/// Artifacts listed at most.
const LISTED: u32 = 10_000;
/// Artifacts of which the text says what they are; for more, only their names are shown.
const DESCRIBED: usize = 100;
/// Paths that a message names.
const PATHS: usize = 20;
/// Bytes of the largest manifest that is read.
const MANIFEST_BYTES: u64 = 1 << 30;

pub(super) async fn run(global: &Global, artifact: Artifact) -> Outcome {
    match artifact {
        Artifact::Ls(ls) => list(global, &ls).await?,
        Artifact::Cat(cat) => asking(global, async |client| print(client, &cat).await).await?,
        Artifact::Get(get) => fetch(global, &get).await?,
        Artifact::Put(put) => store(global, &put).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An artifact that was found.
struct Found {
    reference: String,
    name: String,
    digest: Digest,
    job: JobId,
}

async fn listed(client: &mut Client, target: &Target) -> Result<(Vec<Found>, bool), Failure> {
    let request = api::ListArtifactsRequest {
        job: target.job_id().0,
        step: target.step,
        task: target.task,
        attempt: target.reference.attempt.map(|attempt| attempt.0),
        limit: LISTED,
    };
    let answer = client.list_artifacts(request).await?;
    let found = answer.artifacts.into_iter().filter_map(|artifact| {
        Some(Found {
            reference: target::task_reference(&target.job, artifact.step, artifact.task),
            name: artifact.name,
            digest: Digest::try_from(artifact.manifest?).ok()?,
            job: target.job_id(),
        })
    });
    Ok((found.collect(), answer.more))
}

async fn manifest(client: &mut Client, job: JobId, digest: Digest) -> Result<Manifest, Failure> {
    if digest.length > MANIFEST_BYTES {
        return Err(ClientError::Refused(format!("manifest {digest} is larger than this program reads")).into());
    }
    let bytes = client.download_bytes(job, digest).await?;
    Manifest::decode(&bytes).map_err(|error| ClientError::Fault(format!("manifest {digest}: {error}")).into())
}

async fn list(global: &Global, ls: &OneReference) -> Result<(), Failure> {
    let (found, more, kinds) = asking(global, async |client| {
        let target = target::find(client, &ls.reference).await?;
        let (found, more) = listed(client, &target).await?;
        let mut kinds = Vec::new();
        if found.len() <= DESCRIBED && !output::is_json() {
            for artifact in &found {
                kinds.push(kind(&manifest(client, artifact.job, artifact.digest).await?));
            }
        }
        Ok((found, more, kinds))
    })
    .await?;
    if output::is_json() {
        let artifacts =
            found.iter().map(|it| json!({ "task": it.reference, "name": it.name, "digest": it.digest.to_string() }));
        output::json(&json!({ "artifacts": artifacts.collect::<Vec<_>>(), "more": more }));
        return Ok(());
    }
    if found.is_empty() {
        output::note(format!("{} has no artifact (yet); they appear when a task has succeeded", ls.reference));
        return Ok(());
    }
    let mut table = Table::new(["TASK", "NAME", "WHAT", "DIGEST"]);
    for (at, artifact) in found.iter().enumerate() {
        let kind = kinds.get(at).map_or("", String::as_str);
        table.row([
            cell(&artifact.reference),
            cell(&artifact.name),
            cell(kind),
            cell(short(&artifact.digest.to_string())),
        ]);
    }
    table.print();
    if more {
        output::note("there are more; name a step or a task");
    }
    if let Some(first) = found.first() {
        let cluster = same_cluster(global);
        output::note(format!("read one:  fctl artifact cat {} {}{cluster}", first.reference, first.name));
    }
    Ok(())
}

/// What an artifact is, in words.
fn kind(manifest: &Manifest) -> String {
    let summary = manifest.summary();
    let size = text::size(summary.bytes);
    match manifest.root_file() {
        Some(_) => format!("file, {size}"),
        None => format!("folder, {}, {size}", text::count(summary.files, "file")),
    }
}

/// The one artifact of that name.
async fn find(client: &mut Client, reference: &flowyard_model::Reference, name: &Name) -> Result<Found, Failure> {
    let target = target::find(client, reference).await?;
    let (found, _) = listed(client, &target).await?;
    let names: Vec<String> = found.iter().map(|artifact| artifact.name.clone()).collect();
    let mut named = found.into_iter().filter(|artifact| artifact.name == name.as_str());
    match (named.next(), named.next()) {
        (Some(one), None) => Ok(one),
        (Some(first), Some(second)) => Err(Failure::Usage(format!(
            "{reference} has {} artifacts called `{name}`; name a task, such as {} or {}",
            2 + named.count(),
            first.reference,
            second.reference
        ))),
        (None, _) => Err(absent(&target, name, names)),
    }
}

fn absent(target: &Target, name: &Name, mut names: Vec<String>) -> Failure {
    names.sort();
    names.dedup();
    let known = match (names.is_empty(), nearest(name.as_str(), names.iter().map(String::as_str))) {
        (true, _) => "; it has none (yet): they appear when a task has succeeded".to_owned(),
        (false, Some(meant)) => format!("; did you mean `{meant}`? It has: {}", names.join(", ")),
        (false, None) => format!("; it has: {}", names.join(", ")),
    };
    ClientError::NotFound(format!("{} has no artifact `{name}`{known}", target.reference)).into()
}

async fn print(client: &mut Client, cat: &ArtifactCat) -> Result<(), Failure> {
    let found = find(client, &cat.reference, &cat.name).await?;
    let manifest = manifest(client, found.job, found.digest).await?;
    let digest = file_of(&manifest, &cat.name, cat.path.as_deref())?;
    client.download(found.job, digest, &mut Answer).await?;
    Ok(())
}

/// The blob of a file of an artifact.
fn file_of(manifest: &Manifest, name: &Name, path: Option<&str>) -> Result<Digest, Failure> {
    let refused = |what: String| Failure::Usage(format!("artifact `{name}` {what}"));
    match (manifest.root_file(), path) {
        (Some((digest, _)), None) => Ok(digest),
        (Some(_), Some(_)) => Err(refused("is one file; leave the path out".to_owned())),
        (None, None) => Err(refused(format!("is a folder; name a file in it: {}", paths_in(manifest, b"")))),
        (None, Some(path)) => {
            let path = path.trim_start_matches("./").trim_end_matches('/');
            match manifest.entry(path.as_bytes()).map(|entry| &entry.kind) {
                Some(EntryKind::File { digest, .. }) => Ok(*digest),
                Some(EntryKind::Directory) => {
                    let inside = paths_in(manifest, path.as_bytes());
                    Err(refused(format!("has a folder at `{}`; name a file in it: {inside}", harmless(path))))
                }
                Some(EntryKind::Symlink { target }) => {
                    let target = harmless(&String::from_utf8_lossy(target));
                    Err(refused(format!("has a link at `{}`; name the file it points to: `{target}`", harmless(path))))
                }
                None => {
                    let said = format!(
                        "artifact `{name}` has no file `{}`; it has: {}",
                        harmless(path),
                        paths_in(manifest, b"")
                    );
                    Err(ClientError::NotFound(said).into())
                }
            }
        }
    }
}

/// Files below a folder of an artifact, as many as a message takes.
fn paths_in(manifest: &Manifest, folder: &[u8]) -> String {
    let below = |entry: &&Entry| {
        let rest = entry.path.strip_prefix(folder);
        let inside = rest.is_some_and(|rest| folder.is_empty() || rest.first() == Some(&b'/'));
        inside && matches!(entry.kind, EntryKind::File { .. })
    };
    let mut files = manifest.entries().iter().filter(below);
    let listed: Vec<_> =
        files.by_ref().take(PATHS).map(|entry| harmless(&String::from_utf8_lossy(&entry.path))).collect();
    match files.count() {
        0 if listed.is_empty() => "it is empty".to_owned(),
        0 => listed.join(", "),
        rest => format!("{} and {rest} more", listed.join(", ")),
    }
}

/// Standard output; a reader that went away ends the command.
struct Answer;

impl Write for Answer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        output::bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn fetch(global: &Global, get: &ArtifactGet) -> Result<(), Failure> {
    let destination = get.to.clone().unwrap_or_else(|| get.name.as_str().into());
    checkout::must_not_exist(&destination)?;
    let (found, manifest) = asking(global, async |client| {
        let found = find(client, &get.reference, &get.name).await?;
        let manifest = manifest(client, found.job, found.digest).await?;
        checkout::fetch(client, found.job, &manifest, &destination).await?;
        Ok((found, manifest))
    })
    .await?;
    let summary = manifest.summary();
    if output::is_json() {
        output::json(&json!({
            "task": found.reference,
            "name": found.name,
            "digest": found.digest.to_string(),
            "path": destination,
            "files": summary.files,
            "bytes": summary.bytes,
        }));
    } else {
        output::line(format!("{}  {}", harmless(&destination.display().to_string()), kind(&manifest)));
    }
    Ok(())
}

async fn store(global: &Global, put: &ArtifactPut) -> Result<(), Failure> {
    let packed = pack_path(&put.path, RootLink::Follow).map_err(|error| Failure::Usage(error.to_string()))?;
    let digest = packed.manifest.digest();
    let mut blobs = BTreeMap::from([(digest, Source::Bytes(Bytes::from(packed.manifest.encode())))]);
    blobs.extend(packed.sources.iter().map(|(digest, path)| (*digest, Source::File(path.clone()))));
    let sent = asking(global, async |client| Ok(client.upload(blobs).await?)).await?;
    if output::is_json() {
        let summary = packed.summary();
        output::json(&json!({
            "digest": digest.to_string(),
            "files": summary.files,
            "bytes": summary.bytes,
            "sent_blobs": sent.blobs,
            "sent_bytes": sent.bytes,
        }));
        return Ok(());
    }
    output::line(record::digest(Some(&digest.into())));
    output::note(format!("{}; sent {}", kind(&packed.manifest), text::size(sent.bytes)));
    output::note("it is kept for a day, and longer while a job names it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> Entry {
        let kind = EntryKind::File { digest: flowyard_cas::digest_bytes(content), executable: false };
        Entry { path: path.as_bytes().to_vec(), kind }
    }

    fn folder(path: &str) -> Entry {
        Entry { path: path.as_bytes().to_vec(), kind: EntryKind::Directory }
    }

    #[test]
    fn a_file_is_found_by_its_path_and_a_folder_says_what_is_in_it() {
        let tree = Manifest::from_entries(vec![folder("a"), file("a/x", b"1"), file("ab", b"2"), folder("b")]).unwrap();
        let name: Name = "model".parse().unwrap();
        let of = |path: Option<&str>| file_of(&tree, &name, path).map_err(|error| error.to_string());
        assert_eq!(of(Some("./a/x")).unwrap(), flowyard_cas::digest_bytes(b"1"));
        assert!(of(None).unwrap_err().contains("name a file in it: a/x, ab"));
        let inside = of(Some("a/")).unwrap_err();
        assert!(inside.contains("a/x") && !inside.contains("ab"), "{inside}");
        assert!(of(Some("b")).unwrap_err().contains("it is empty"));
        assert!(of(Some("c")).unwrap_err().contains("has no file `c`"));
    }

    #[test]
    fn an_artifact_that_is_one_file_needs_no_path() {
        let one = Manifest::file(flowyard_cas::digest_bytes(b"1"), false);
        let name: Name = "model".parse().unwrap();
        assert_eq!(file_of(&one, &name, None).unwrap(), flowyard_cas::digest_bytes(b"1"));
        assert!(file_of(&one, &name, Some("x")).unwrap_err().to_string().contains("leave the path out"));
    }
}
