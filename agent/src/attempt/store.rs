//! The last phase: outputs and logs become blobs of the origin.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_cas::items::items_from_json;
use flowyard_cas::{PackError, Packed, RootLink, Store, StoreError, pack_path};
use flowyard_model::{AttemptOutcome, Digest, End, ItemList, Logs, Name, Output, Reason, StepContext};

use super::ending::{chain, platforms, users};
use super::fetch::WORK;
use crate::logs::{STDERR_LOG, STDOUT_LOG};

/// Stores what is kept of an attempt that ended like this: outputs if it succeeded, logs in any case. Gives the end as it is then.
pub(super) async fn all(store: &Store, context: &StepContext, folder: &Path, mut end: End) -> End {
    if end.outcome == AttemptOutcome::Succeeded {
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
async fn outputs(
    store: &Store,
    context: &StepContext,
    folder: &Path,
) -> Result<BTreeMap<Name, Output>, End> {
    let mut outputs = BTreeMap::new();
    for (name, written) in &context.spec.outputs {
        let path = folder.join(WORK).join(written);
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

async fn pack(name: &Name, written: &str, path: &Path) -> Result<Packed, End> {
    let owned = path.to_owned();
    let inside = path.to_string_lossy().strip_suffix(written).unwrap_or_default().to_owned();
    let packed = tokio::task::spawn_blocking(move || pack_path(&owned, RootLink::Refuse)).await;
    let packed = packed.map_err(|panic| platforms(Reason::Output, format!("output `{name}`: {panic}")))?;
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
