//! `fctl cluster backup`: everything that a cluster keeps, in one file that is read back before it counts.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use flowyard_coordinator::backup::{BackupError, Summary, verify};
use flowyard_proto::cluster::BackupRequest;
use flowyard_sdk::client::Client;
use flowyard_sdk::shown::chain;
use serde_json::{Value, json};

use crate::asking::asking;
use crate::cli::Global;
use crate::cli::fleet::ClusterBackup;
use crate::failure::Failure;
use crate::s3::{S3File, Upload};
use crate::signals::Stops;
use crate::{output, text};

/// Standard output, or input.
const STANDARD: &str = "-";
/// How long a store is given to take back what it was sent.
const TAKE_BACK: Duration = Duration::from_secs(30);

/// Makes a backup.
pub(super) async fn make(global: &Global, asked: &ClusterBackup) -> Result<(), Failure> {
    let request = BackupRequest { with_keys: asked.with_keys, without_blobs: asked.without_blobs, with_log: asked.log };
    if asked.with_keys {
        output::warning(
            "the backup will have the key of the cluster's authority: whoever reads it can be anybody in the cluster; keep it \
             as you keep passwords",
        );
    }
    if asked.file == STANDARD {
        if io::stdout().is_terminal() {
            return Err(Failure::Usage("a backup is no text: write it to a file, or into a pipe".to_owned()));
        }
        let mut out = io::stdout().lock();
        asking(global, async |client| receive(client, request, &mut Sink::File(&mut out, "standard output")).await)
            .await?;
        output::note("written, and not read back; check what arrived with `fctl cluster verify-backup FILE`");
        return Ok(());
    }
    if let Some(object) = S3File::named(&asked.file)? {
        return send(global, asked, request, &object).await;
    }
    let destination = local(&asked.file, "fctl cluster backup - | gsutil cp - ")?;
    if destination.exists() && !asked.overwrite {
        return Err(exists(&destination));
    }
    let beside = Beside::create(&destination)?;
    let path = beside.path.display().to_string();
    let mut file = &beside.file;
    asking(global, async |client| receive(client, request, &mut Sink::File(&mut file, &path)).await).await?;
    beside.file.sync_all().map_err(Failure::local(&path))?;
    let summary = read_back(&beside.path)?;
    beside.place(&destination, asked.overwrite)?;
    tell(&asked.file, &summary, "written and read back");
    Ok(())
}

/// Makes a backup as an object of a store. It is there once all of it was sent, and goes away again if what is read back is damaged.
async fn send(global: &Global, asked: &ClusterBackup, request: BackupRequest, object: &S3File) -> Result<(), Failure> {
    if !asked.overwrite && object.exists().await? {
        return Err(exists(Path::new(&asked.file)));
    }
    let mut stops = Stops::hear()?;
    let stopped = |stop| Failure::Stopped { stop, what: asked.file.clone() };
    let mut upload = tokio::select! {
        created = object.create() => created?,
        stop = stops.next() => return Err(stopped(stop)),
    };
    let sending = async {
        asking(global, async |client| receive(client, request, &mut Sink::Object(&mut upload)).await).await?;
        upload.finish().await
    };
    let sent = tokio::select! {
        sent = sending => sent,
        stop = stops.next() => Err(stopped(stop)),
    };
    if let Err(error) = sent {
        take_back(upload, &mut stops).await;
        return Err(error);
    }
    let read = tokio::select! {
        read = object.read(verify) => read,
        stop = stops.next() => Err(stopped(stop)),
    };
    match read {
        Ok(Ok(summary)) => tell(&asked.file, &summary, "written and read back"),
        Ok(Err(damage)) if !matches!(damage, BackupError::Io(_)) => return Err(forsaken(object, asked, &damage).await),
        Ok(Err(failed)) => return Err(unread(&asked.file, &chain(&failed))),
        Err(failed) => return Err(unread(&asked.file, &chain(&failed))),
    }
    Ok(())
}

/// Takes back what was sent, unless that takes too long or is interrupted, too.
async fn take_back(upload: Upload<'_>, stops: &mut Stops) {
    let taken = tokio::select! {
        taken = tokio::time::timeout(TAKE_BACK, upload.abort()) => taken.is_ok_and(|taken| taken),
        _ = stops.next() => false,
    };
    if !taken {
        output::warning("parts of it may be left in the store, until its own rules for them take them away");
    }
}

/// What was written may be whole: only reading it back did not succeed.
fn unread(file: &str, why: &str) -> Failure {
    let why = format!("it is written, and was not read back: {why}; check it with `fctl cluster verify-backup {file}`");
    Failure::Local { path: file.to_owned(), source: io::Error::other(why) }
}

/// What is no backup is not to be found one day by whoever needs one.
async fn forsaken(object: &S3File, asked: &ClusterBackup, damage: &BackupError) -> Failure {
    let gone = match object.remove().await {
        Ok(()) => "it is removed".to_owned(),
        Err(error) => format!("and it could not be removed: {}", chain(&error)),
    };
    Failure::Usage(format!("{}: what was written does not read back whole ({}); {gone}", asked.file, chain(damage)))
}

/// Reads a backup, and says what is in it.
pub(super) async fn check(file: &str) -> Result<(), Failure> {
    let summary = match (file, S3File::named(file)?) {
        (STANDARD, _) => verify(io::stdin().lock()).map_err(|error| unusable(file, &error))?,
        (file, Some(object)) => read_object(&object, file).await?,
        (file, None) => read_back(&local(file, "gsutil cp ... - | fctl cluster verify-backup -; not ")?)?,
    };
    tell(file, &summary, "is whole");
    Ok(())
}

async fn read_object(object: &S3File, file: &str) -> Result<Summary, Failure> {
    object.read(verify).await?.map_err(|error| unusable(file, &error))
}

/// Where a backup to be restored is.
pub(super) enum Source {
    Here(PathBuf),
    Object(S3File),
}

impl Source {
    /// The place that this names.
    pub(super) fn named(backup: &str) -> Result<Self, Failure> {
        Ok(match S3File::named(backup)? {
            Some(object) => Self::Object(object),
            None => Self::Here(local(backup, "gsutil cp ... FILE, then: fctl coordinator restore FILE; not ")?),
        })
    }

    /// It as a file of this machine: itself, or a copy of an object that takes room where `folder` is, and has no name there.
    pub(super) async fn fetch(self, backup: &str, folder: &Path) -> Result<Fetched, Failure> {
        let object = match self {
            Self::Here(path) => {
                // What is wrong with the file itself is told as that, whatever it is then used for.
                File::open(&path).map_err(Failure::local(path.display()))?;
                return Ok(Fetched { path, _copy: None });
            }
            Self::Object(object) => object,
        };
        // With no name it is gone with this process, however that ends.
        let beside = Beside::create(folder)?;
        let copy = beside.file.try_clone().map_err(Failure::local(beside.path.display()))?;
        drop(beside);
        let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        let mut into = copy.try_clone().map_err(Failure::local(folder.display()))?;
        let copied = object.read(move |mut bytes| io::copy(&mut bytes, &mut into)).await?;
        copied.map_err(Failure::local(format!("{backup}, copied to the disk of {}", folder.display())))?;
        Ok(Fetched { path, _copy: Some(copy) })
    }
}

/// A backup as a file, for as long as this is kept.
pub(super) struct Fetched {
    pub path: PathBuf,
    _copy: Option<File>,
}

/// Where the bytes of a backup go.
enum Sink<'a, 'b> {
    /// A file of this machine, and what it is called.
    File(&'a mut (dyn Write + 'b), &'a str),
    Object(&'a mut Upload<'b>),
}

impl Sink<'_, '_> {
    async fn put(&mut self, bytes: Bytes) -> Result<(), Failure> {
        match self {
            Sink::File(out, path) => out.write_all(&bytes).map_err(Failure::local(path)),
            Sink::Object(upload) => upload.put(bytes).await,
        }
    }
}

async fn receive(client: &mut Client, request: BackupRequest, into: &mut Sink<'_, '_>) -> Result<(), Failure> {
    let mut pieces = client.backup(request).await?;
    while let Some(piece) = pieces.message().await.map_err(|status| client.sorted(status))? {
        into.put(piece.bytes).await?;
    }
    match into {
        Sink::File(out, path) => out.flush().map_err(Failure::local(path)),
        Sink::Object(upload) => upload.flush().await,
    }
}

fn read_back(path: &Path) -> Result<Summary, Failure> {
    let file = File::open(path).map_err(Failure::local(path.display()))?;
    verify(file).map_err(|error| unusable(&path.display().to_string(), &error))
}

/// A backup that is not used, with why.
pub(super) fn unusable(path: &str, error: &BackupError) -> Failure {
    match error {
        BackupError::Io(_) => Failure::Local { path: path.to_owned(), source: io::Error::other(chain(error)) },
        error => Failure::Usage(format!("{path}: {}", chain(error))),
    }
}

/// A path of this machine; other object stores have tools of their own.
pub(super) fn local(file: &str, pipe: &str) -> Result<PathBuf, Failure> {
    match file.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Err(Failure::Usage(format!(
            "`{}`: backups are files of this machine, objects at s3://, or standard output; use the store's own tool, such as: {pipe}{}",
            text::harmless(file),
            text::harmless(file)
        ))),
        _ => Ok(PathBuf::from(file)),
    }
}

fn exists(path: &Path) -> Failure {
    Failure::Usage(format!("{} exists; choose another name, or replace it with --overwrite", path.display()))
}

/// The file while it is written; it goes away unless it is put in its place.
struct Beside {
    path: PathBuf,
    file: File,
}

impl Beside {
    fn create(destination: &Path) -> Result<Self, Failure> {
        let mut name = destination.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let path = destination.with_file_name(name);
        // Whoever may read it knows every parameter of every job.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(Failure::local(path.display()))?;
        Ok(Self { path, file })
    }

    fn place(&self, destination: &Path, overwrite: bool) -> Result<(), Failure> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let placed = match overwrite {
            true => std::fs::rename(&self.path, destination),
            false => match renameat_with(CWD, &self.path, CWD, destination, RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::EXIST) => return Err(exists(destination)),
                // Some file systems cannot promise it; it was looked for before.
                Err(rustix::io::Errno::INVAL) => std::fs::rename(&self.path, destination),
                placed => placed.map_err(io::Error::from),
            },
        };
        placed.map_err(Failure::local(destination.display()))?;
        let folder = destination.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Failure::local(folder.display()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Gone already when it was put in its place.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn tell(file: &str, summary: &Summary, how: &str) {
    if output::is_json() {
        return output::json(&as_json(file, summary));
    }
    let Summary { head, tail, bytes } = summary;
    let name = if head.name.is_empty() { &head.cluster } else { &head.name };
    output::line(format!(
        "{file}: cluster {}, epoch {}, revision {}, {how}: {}, {} ({}), {}; {}",
        text::harmless(name),
        head.epoch,
        head.revision,
        text::count(tail.records, "record"),
        text::count(tail.blobs, "blob"),
        text::size(tail.blob_bytes),
        if tail.keys == 0 { "no keys".to_owned() } else { text::count(u64::from(tail.keys), "key file") },
        text::size(*bytes),
    ));
    if tail.lost_blobs > 0 {
        output::warning(format!(
            "{} that jobs name are with no coordinator that answered, and not in it",
            text::count(tail.lost_blobs, "blob")
        ));
    }
    if !head.blobs {
        output::note("it has no blobs: code, inputs, artifacts and logs must come from elsewhere");
    }
}

fn as_json(file: &str, Summary { head, tail, bytes }: &Summary) -> Value {
    json!({
        "file": file, "format": head.format, "cluster": head.cluster, "name": head.name, "epoch": head.epoch,
        "revision": head.revision, "version": head.cluster_version, "release": head.release,
        "made_at_ms": head.made_at_ms, "records": tail.records, "blobs": tail.blobs, "blob_bytes": tail.blob_bytes,
        "lost_blobs": tail.lost_blobs, "keys": tail.keys, "with_blobs": head.blobs, "bytes": bytes,
        "with_log": head.log, "log_segments": tail.segments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_object_stores_are_left_to_their_own_tools() {
        let told = local("gs://bucket/x", "fctl cluster backup - | gsutil cp - ").unwrap_err().to_string();
        assert!(told.contains("fctl cluster backup - | gsutil cp - gs://bucket/x"), "{told}");
        assert_eq!(local("./a:b", "").unwrap(), PathBuf::from("./a:b"));
    }
}
