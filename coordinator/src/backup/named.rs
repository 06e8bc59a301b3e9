//! Which blobs a state needs, each once.

use std::collections::BTreeSet;

use flowyard_cas::Manifest;
use flowyard_model::Digest;
use flowyard_state::View;

use crate::archive::ArchiveError;
use crate::collector::named_by_state;
use crate::durable::Durable;

/// The blobs that a state names, also through artifacts and the archive.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Those that are here.
    pub blobs: BTreeSet<Digest>,
    /// How many nobody has.
    pub lost: u64,
}

/// Finds every blob that this view names, and brings what is not here.
///
/// # Errors
/// When a blob cannot be brought, or an artifact is none.
pub(crate) async fn kept_blobs(durable: &Durable, view: &View) -> Result<Kept, ArchiveError> {
    let (live, mut kept) = (named_by_state(durable, view).await?, Kept::default());
    let manifests: BTreeSet<Digest> = live.manifests.into_iter().collect();
    let mut named: BTreeSet<Digest> = live.blobs.into_iter().collect();
    for digest in manifests {
        match durable.get_bytes(&digest).await {
            Ok(bytes) => {
                named.extend(Manifest::listed(digest, &bytes)?);
                kept.blobs.insert(digest);
            }
            Err(error) if error.is_missing() => kept.lost += 1,
            Err(error) => return Err(error.into()),
        }
    }
    for digest in named.into_iter().filter(|digest| !kept.blobs.contains(digest)).collect::<Vec<_>>() {
        match durable.has(&digest).await? {
            true => drop(kept.blobs.insert(digest)),
            false => kept.lost += 1,
        }
    }
    Ok(kept)
}
