//! Which blobs somebody may read: those that something they may look at names, itself or through an artifact.
//!
//! Owns what artifacts name, as far as it was read, and who stored what. What is read once is kept, since an artifact never changes.
//! Invariant: knowing a digest is no right to read it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyard_cas::{LiveBlobs, Manifest, ManifestError, StoreError};
use flowyard_model::{Digest, JobId, Name, QueuePath, limits};
use flowyard_state::View;
use tokio::sync::Semaphore;

use crate::access::{Action, Caller, Named, allow};
use crate::collector::named_by;
use crate::durable::Durable;
use crate::session::allocated;
use crate::uploads::Uploads;

/// Blobs of artifacts that are kept in mind; beyond that all is read anew.
const KEPT: usize = 2_000_000;
/// Manifests that are read at a time when they are named for the first time.
const READ_AT_ONCE: usize = 4;

/// What artifacts name, and who uploaded what; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Readable {
    known: Arc<Mutex<Known>>,
    /// Who stored a blob, here or at another coordinator.
    uploads: Uploads,
    reading: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Known {
    artifacts: HashMap<Digest, Arc<HashSet<Digest>>>,
    blobs: usize,
}

impl Readable {
    /// Nothing was read yet; who stored what is remembered in this folder.
    pub(crate) fn open(folder: &Path) -> Self {
        let uploads = Uploads::open(folder);
        Self { known: Arc::default(), uploads, reading: Arc::new(Semaphore::new(READ_AT_ONCE)) }
    }

    /// Remembers who stored blobs.
    pub(crate) async fn uploaded(&self, digests: &[Digest], by: &str) {
        self.uploads.add(digests, by).await;
    }

    fn has_uploaded(&self, digest: Digest, by: &str) -> bool {
        self.uploads.has(digest, by)
    }

    /// Whether a live allocation of this node names the blob.
    ///
    /// # Errors
    /// When an artifact cannot be read.
    pub(crate) async fn by_node(
        &self,
        view: &View,
        durable: &Durable,
        node: &Name,
        digest: Digest,
    ) -> Result<bool, StoreError> {
        let Some((id, _)) = view.node_named(node) else { return Ok(false) };
        let named = allocated(view, id);
        self.names(durable, &named, digest).await
    }

    /// Whether this job names the blob.
    ///
    /// # Errors
    /// When an artifact cannot be read.
    pub(crate) async fn by_job(
        &self,
        view: &View,
        durable: &Durable,
        id: JobId,
        digest: Digest,
    ) -> Result<bool, StoreError> {
        let Some(job) = view.outline(id) else { return Ok(false) };
        self.names(durable, &named_by(view, id, job.spec), digest).await
    }

    /// Those of the blobs that the caller has no right to use in a job: nothing they may look at names them, and they did not
    /// upload them here.
    ///
    /// # Errors
    /// When an artifact cannot be read.
    pub(crate) async fn not_usable(
        &self,
        view: &View,
        durable: &Durable,
        caller: &Caller,
        digests: &[Digest],
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let principal = caller.principal();
        let mut left: BTreeSet<Digest> = digests.iter().copied().collect();
        if may_use_all(caller) {
            // What the cluster itself keeps is no artifact of a job, and tells more than jobs do.
            let pages = view.archive_pages().map(|(_, page)| page.rows);
            let sealed = view.segments().map(|segment| segment.blob).chain(view.secrets().map(|(_, kept)| kept.sealed));
            let own: HashSet<Digest> = pages.chain(sealed).collect();
            left.retain(|digest| own.contains(digest));
            return Ok(left);
        }
        left.retain(|digest| !self.has_uploaded(*digest, &principal));
        if let Caller::Agent { name } = caller {
            if let Some((node, _)) = view.node_named(name) {
                self.strike(durable, &allocated(view, node), &mut left).await?;
            }
            return Ok(left);
        }
        for (id, job) in view.outlines().rev() {
            if left.is_empty() {
                break;
            }
            if may_use(caller, &job.spec.queue) {
                self.strike(durable, &named_by(view, id, job.spec), &mut left).await?;
            }
        }
        Ok(left)
    }

    /// Takes out of `left` what is named, itself or through an artifact.
    async fn strike(
        &self,
        durable: &Durable,
        named: &LiveBlobs,
        left: &mut BTreeSet<Digest>,
    ) -> Result<(), StoreError> {
        for digest in named.blobs.iter().chain(&named.manifests) {
            left.remove(digest);
        }
        for manifest in &named.manifests {
            if left.is_empty() {
                break;
            }
            let blobs = self.blobs_of(durable, *manifest).await?;
            left.retain(|digest| !blobs.contains(digest));
        }
        Ok(())
    }

    /// What a manifest lists that somebody names for the first time. From here on what it lists is as readable as itself, so it is
    /// read before it is believed.
    ///
    /// # Errors
    /// When it is not stored, too large, or no manifest.
    pub(crate) async fn listed_by(
        &self,
        durable: &Durable,
        manifest: Digest,
    ) -> Result<Arc<HashSet<Digest>>, StoreError> {
        if let Some(known) = self.lock().artifacts.get(&manifest) {
            return Ok(known.clone());
        }
        let refused = |source| StoreError::Manifest { digest: manifest, source };
        if manifest.length > limits::MANIFEST_BYTES {
            return Err(refused(ManifestError::NotAManifest));
        }
        // A large one takes much memory while it is read, so few are at a time.
        let _turn = self.reading.acquire().await;
        let bytes = durable.get_bytes(&manifest).await?;
        let decoded = Manifest::decode(&bytes).map_err(refused)?;
        Ok(self.keep(manifest, Arc::new(decoded.blobs().collect())))
    }

    async fn names(&self, durable: &Durable, named: &LiveBlobs, digest: Digest) -> Result<bool, StoreError> {
        if named.blobs.contains(&digest) || named.manifests.contains(&digest) {
            return Ok(true);
        }
        for manifest in &named.manifests {
            if self.blobs_of(durable, *manifest).await?.contains(&digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What an artifact names; nothing if it is lost.
    async fn blobs_of(&self, durable: &Durable, manifest: Digest) -> Result<Arc<HashSet<Digest>>, StoreError> {
        if let Some(known) = self.lock().artifacts.get(&manifest) {
            return Ok(known.clone());
        }
        let Some(named) = durable.named_by_artifact(manifest).await? else { return Ok(Arc::default()) };
        let blobs: Arc<HashSet<Digest>> = Arc::new(named.into_iter().collect());
        Ok(self.keep(manifest, blobs))
    }

    fn keep(&self, manifest: Digest, blobs: Arc<HashSet<Digest>>) -> Arc<HashSet<Digest>> {
        let mut known = self.lock();
        if known.blobs + blobs.len() > KEPT {
            (known.artifacts, known.blobs) = (HashMap::new(), 0);
        }
        known.blobs += blobs.len() + 1;
        known.artifacts.insert(manifest, blobs.clone());
        blobs
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_use(caller: &Caller, queue: &QueuePath) -> bool {
    allow(caller, Action::UseBlob { named_by: &[Named::Job { queue }] }).is_ok()
}

/// Whoever may look at every queue may use what is stored.
fn may_use_all(caller: &Caller) -> bool {
    allow(caller, Action::UseBlob { named_by: &[Named::Stored] }).is_ok()
}

#[cfg(test)]
mod tests {
    use flowyard_cas::Origin;

    use super::*;
    use crate::{Coordinator, fixture};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_an_agent_stored_is_its_own_to_name_after_the_only_coordinator_was_started_again() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let (config, blob) = (coordinator.shared().config.clone(), flowyard_cas::digest_bytes(b"weights"));
        coordinator.shared().readable.uploaded(&[blob], &agent("n1").principal()).await;
        coordinator.shutdown().await;
        let again = Coordinator::start((*config).clone(), Origin::in_memory()).await.unwrap();
        let (shared, view) = (again.shared(), again.shared().feed.view());
        for (name, foreign) in [("n1", 0), ("n2", 1)] {
            let left = shared.readable.not_usable(&view, &shared.durable, &agent(name), &[blob]).await.unwrap();
            assert_eq!(left.len(), foreign, "{name}");
        }
        again.shutdown().await;
    }

    fn agent(name: &str) -> Caller {
        Caller::Agent { name: name.parse().unwrap() }
    }
}
