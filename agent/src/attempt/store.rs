//! The last phase: outputs and logs become blobs of the origin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flowyard_cas::items::items_from_json;
use flowyard_cas::{PackError, Packed, RootLink, Store, StoreError, pack_path};
use flowyard_model::{AttemptOutcome, Digest, End, ItemList, Logs, Name, Output, Rank, Reason, StepContext};

use super::ending::{chain, platforms, users};
use super::fetch::WORK;
use crate::logs::{STDERR_LOG, STDOUT_LOG};

/// Stores what is kept of an attempt that ended like this: outputs if it succeeded, logs in any case. Gives the end as it is then.
/// Of a gang, rank 0 writes them.
pub(super) async fn all(store: &Store, context: &StepContext, (rank, folder): (Rank, &Path), mut end: End) -> End {
    if end.outcome == AttemptOutcome::Succeeded && rank == Rank(0) {
        match outputs(store, context, folder).await {
            Ok(outputs) => end.outputs = outputs,
            Err(failed) => end = End { peak_memory_bytes: end.peak_memory_bytes, cpu_us: end.cpu_us, ..failed },
        }
    }
    match logs(store, folder).await {
        Ok(logs) => end.logs = logs,
        Err(failed) if end.outcome == AttemptOutcome::Succeeded => end = failed,
        Err(failed) => tracing::error!(message = failed.message, "logs could not be stored"),
    }
    end
}

/// Stores every output of the spec.
///
/// # Errors
/// The end of the attempt: an output that is missing, is no list though a `foreach` names it, or cannot be stored.
async fn outputs(store: &Store, context: &StepContext, folder: &Path) -> Result<BTreeMap<Name, Output>, End> {
    let mut outputs = BTreeMap::new();
    for (name, written) in &context.spec.outputs {
        let path = plain_way(&folder.join(WORK), written)
            .map_err(|said| users(Reason::Output, format!("output `{name}`: {said}")))?;
        let packed = pack(name, written, &path).await?;
        let list = match context.lists.contains(name) {
            true => Some(list(store, name, written, &path, &packed).await?),
            false => None,
        };
        let stored =
            store.put_packed(&packed).await.map_err(|error| store_failure(&format!("output `{name}`"), &error))?;
        outputs.insert(name.clone(), Output { manifest: stored.manifest, list });
    }
    Ok(outputs)
}

/// The path of what a task wrote, unless a link lies on the way to it: what a link names inside a container is something else here,
/// and not the task's to give away. Nothing of the task runs any more, so what is found now stays so.
fn plain_way(work: &Path, written: &str) -> Result<PathBuf, String> {
    let path = work.join(written);
    let above: Vec<&Path> = path.ancestors().skip(1).take_while(|above| above.starts_with(work)).collect();
    for above in above.into_iter().rev() {
        match std::fs::symlink_metadata(above) {
            Ok(looks) if looks.is_symlink() => {
                let shown = above.strip_prefix(work).unwrap_or(above).display();
                return Err(format!("`{shown}` is a symbolic link; write to a folder of the working directory itself"));
            }
            // What is not there is found to be missing when it is packed.
            _ => {}
        }
    }
    Ok(path)
}

/// Refuses what claims to be larger than the disk it lies on: a file of holes would keep us reading zeros for ever.
fn check_size(path: &Path) -> Result<(), String> {
    let disk = rustix::fs::statvfs(path).map_err(|error| error.to_string())?;
    let most = disk.f_blocks.saturating_mul(disk.f_frsize);
    let (mut left, mut bytes) = (vec![path.to_owned()], 0_u64);
    while let Some(path) = left.pop() {
        let Ok(looks) = std::fs::symlink_metadata(&path) else { continue };
        if looks.is_dir() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if looks.is_file() {
            bytes = bytes.saturating_add(looks.len());
            if bytes > most {
                return Err(format!(
                    "its files claim to be {bytes} bytes or more, and the disk has {most}; write no files with holes"
                ));
            }
        }
    }
    Ok(())
}

async fn pack(name: &Name, written: &str, path: &Path) -> Result<Packed, End> {
    let owned = path.to_owned();
    let inside = path.to_string_lossy().strip_suffix(written).unwrap_or_default().to_owned();
    let packed = tokio::task::spawn_blocking(move || {
        // What is not there at all, packing says best.
        if owned.symlink_metadata().is_ok_and(|looks| !looks.is_symlink()) {
            check_size(&owned)?;
        }
        Ok(pack_path(&owned, RootLink::Refuse))
    });
    let packed = packed.await.map_err(|panic| platforms(Reason::Output, format!("output `{name}`: {panic}")))?;
    let packed = packed.map_err(|said: String| users(Reason::Output, format!("output `{name}`: {said}")))?;
    packed.map_err(|error| match error {
        PackError::Absent { .. } => users(
            Reason::Output,
            format!("output `{name}` was not written: there is no `{written}` in the working directory; write it to $FLOWYARD_OUTPUT_{}", flowyard_model::variable_part(name)),
        ),
        error => {
            // What the user wrote lies below their working directory; where that is on the node says nothing to them.
            let said = chain(&error).replace(&inside, "");
            users(Reason::Output, format!("output `{name}`: {said}"))
        }
    })
}

async fn list(store: &Store, name: &Name, written: &str, path: &Path, packed: &Packed) -> Result<ItemList, End> {
    let subject = format!("output `{name}`, which a foreach names");
    if packed.manifest.root_file().is_none() {
        return Err(users(Reason::Output, format!("{subject}: `{written}` is not a file; write a JSON list to it")));
    }
    let owned = path.to_owned();
    let read = move || {
        let file = std::fs::File::open(&owned).map_err(|error| error.to_string())?;
        items_from_json(std::io::BufReader::new(file), Vec::new()).map_err(|error| chain(&error))
    };
    let encoded = tokio::task::spawn_blocking(read).await;
    let encoded = encoded.map_err(|panic| platforms(Reason::Output, format!("{subject}: {panic}")))?;
    let (items, count) = encoded.map_err(|error| users(Reason::Output, format!("{subject}: `{written}`: {error}")))?;
    let digest = store.put_bytes(items).await.map_err(|error| store_failure(&subject, &error))?;
    Ok(ItemList { items: digest, count })
}

/// Stores what was written to stdout and stderr.
///
/// # Errors
/// The end of an attempt whose logs cannot be stored.
pub(super) async fn logs(store: &Store, folder: &Path) -> Result<Logs, End> {
    Ok(Logs {
        stdout: log(store, &folder.join(STDOUT_LOG)).await?,
        stderr: log(store, &folder.join(STDERR_LOG)).await?,
    })
}

async fn log(store: &Store, path: &Path) -> Result<Option<Digest>, End> {
    match std::fs::metadata(path) {
        Ok(spool) if spool.len() > 0 => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(platforms(Reason::Output, format!("a log: {error}"))),
    }
    Ok(Some(store.put_file(path, None).await.map_err(|error| store_failure("a log", &error))?))
}

fn store_failure(subject: &str, error: &StoreError) -> End {
    let reason = if error.is_disk_full() { Reason::Disk } else { Reason::Output };
    platforms(reason, format!("{subject}: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_on_the_way_to_an_output_is_followed() {
        let work = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(work.path().join("plain")).expect("a folder");
        std::os::unix::fs::symlink("/etc", work.path().join("plain/out")).expect("a link");
        assert_eq!(plain_way(work.path(), "plain/x"), Ok(work.path().join("plain/x")));
        let refused = plain_way(work.path(), "plain/out/passwd").expect_err("a refusal");
        assert!(refused.starts_with("`plain/out` is a symbolic link"), "{refused}");
        // The output itself being one is for the packer to refuse, which says where it leads.
        assert!(plain_way(work.path(), "plain/out").is_ok());
    }

    #[test]
    fn files_that_claim_to_be_larger_than_their_disk_are_refused() {
        let work = tempfile::tempdir().expect("a folder");
        let disk = rustix::fs::statvfs(work.path()).expect("a disk");
        let out = work.path().join("out");
        std::fs::create_dir(&out).expect("a folder");
        for name in ["a", "b"] {
            let file = std::fs::File::create(out.join(name)).expect("a file");
            // Half of the disk each, and a little: no single file of them is too large.
            file.set_len(disk.f_blocks * disk.f_frsize / 2 + 1).expect("a hole");
        }
        assert_eq!(check_size(&out.join("a")), Ok(()));
        let refused = check_size(&out).expect_err("a refusal");
        assert!(refused.contains("write no files with holes"), "{refused}");
    }
}
