//! Which bytes are freed when jobs are forgotten: those that only they hold, since equal blobs are stored once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use flowyard_cas::{LiveBlobs, StoreError};
use flowyard_model::{Digest, JobId};

use crate::durable::Durable;

/// What jobs hold of the stored blobs.
#[derive(Debug)]
pub(crate) struct Holdings {
    jobs: BTreeMap<JobId, BTreeSet<Digest>>,
    /// How many jobs hold a blob.
    holders: HashMap<Digest, u32>,
    /// What artifacts name, so that each is read once.
    artifacts: HashMap<Digest, Vec<Digest>>,
}

impl Holdings {
    /// No job holds anything.
    pub(crate) fn none() -> Self {
        Self { jobs: BTreeMap::new(), holders: HashMap::new(), artifacts: HashMap::new() }
    }

    /// Adds a job with all that it names, also through its artifacts.
    ///
    /// # Errors
    /// When an artifact cannot be read. One that is lost holds nothing but itself.
    pub(crate) async fn add(&mut self, durable: &Durable, job: JobId, named: LiveBlobs) -> Result<(), StoreError> {
        let mut held: BTreeSet<Digest> = named.blobs.into_iter().collect();
        for digest in named.manifests {
            held.insert(digest);
            let named = match self.artifacts.entry(digest) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(blobs_of(durable, digest).await?),
            };
            held.extend(named.iter());
        }
        for digest in &held {
            *self.holders.entry(*digest).or_default() += 1;
        }
        self.jobs.insert(job, held);
        Ok(())
    }

    /// The first of the candidates that free `wanted` bytes together, or all that can be freed; without those that free nothing.
    pub(crate) fn forget(mut self, candidates: impl Iterator<Item = JobId>, wanted: u64) -> Vec<JobId> {
        let (mut chosen, mut freed) = (Vec::new(), 0);
        for job in candidates {
            if freed >= wanted {
                break;
            }
            for digest in self.jobs.get(&job).into_iter().flatten() {
                let holders = self.holders.entry(*digest).or_default();
                *holders = holders.saturating_sub(1);
                freed = u64::saturating_add(freed, if *holders == 0 { digest.length } else { 0 });
            }
            chosen.push(job);
        }
        let frees = |digest: &Digest| self.holders.get(digest) == Some(&0);
        chosen.retain(|job| self.jobs.get(job).is_some_and(|held| held.iter().any(frees)));
        chosen
    }
}

async fn blobs_of(durable: &Durable, digest: Digest) -> Result<Vec<Digest>, StoreError> {
    Ok(durable.named_by_artifact(digest).await?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use flowyard_cas::Origin;

    use super::*;

    /// Jobs that name these blobs.
    async fn holdings(jobs: &[(u64, &[&[u8]])]) -> Holdings {
        let (origin, mut holdings) = (Durable::of(Origin::in_memory()), Holdings::none());
        for (job, blobs) in jobs {
            let blobs = blobs.iter().map(|bytes| flowyard_cas::digest_bytes(bytes)).collect();
            holdings.add(&origin, JobId(*job), LiveBlobs { manifests: vec![], blobs }).await.unwrap();
        }
        holdings
    }

    fn ids(jobs: &[u64]) -> Vec<JobId> {
        jobs.iter().map(|job| JobId(*job)).collect()
    }

    #[tokio::test]
    async fn a_job_whose_blobs_others_hold_is_not_forgotten_in_vain() {
        let jobs: &[(u64, &[&[u8]])] = &[(1, &[b"shared"]), (2, &[b"own", b"shared"]), (3, &[b"shared"])];
        let chosen = holdings(jobs).await.forget(ids(&[1, 2]).into_iter(), 100);
        assert_eq!(chosen, ids(&[2]), "job 3 keeps what job 1 holds");
        assert_eq!(holdings(jobs).await.forget(ids(&[1]).into_iter(), 1), []);
    }

    #[tokio::test]
    async fn no_more_is_forgotten_than_frees_what_is_wanted_and_what_is_shared_counts_once() {
        let jobs: &[(u64, &[&[u8]])] = &[(1, &[b"12345678"]), (2, &[b"12345678"]), (3, &[b"abcd"]), (4, &[b"efgh"])];
        let all = || ids(&[1, 2, 3, 4]).into_iter();
        assert_eq!(holdings(jobs).await.forget(all(), 8), ids(&[1, 2]));
        assert_eq!(holdings(jobs).await.forget(all(), 9), ids(&[1, 2, 3]));
        assert_eq!(holdings(jobs).await.forget(all(), 1_000), ids(&[1, 2, 3, 4]));
    }

    #[tokio::test]
    async fn what_an_artifact_names_counts() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), [7; 1_000]).unwrap();
        let packed = flowyard_cas::pack_path(folder.path(), flowyard_cas::RootLink::Refuse).unwrap();
        let origin = Origin::in_memory();
        let durable = Durable::of(origin.clone());
        let manifest = origin.put_bytes(packed.manifest.encode().into()).await.unwrap();
        let mut holdings = Holdings::none();
        holdings.add(&durable, JobId(1), LiveBlobs { manifests: vec![manifest], blobs: vec![] }).await.unwrap();
        let small = flowyard_cas::digest_bytes(b"small");
        holdings.add(&durable, JobId(2), LiveBlobs { manifests: vec![], blobs: vec![small] }).await.unwrap();
        assert_eq!(holdings.forget(ids(&[1, 2]).into_iter(), 1_000), ids(&[1]));
    }
}
