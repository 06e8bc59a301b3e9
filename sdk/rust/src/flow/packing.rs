//! The artifacts of a flow, packed on this machine: what there is to send, and in which files it lies.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_cas::pack::CODE_LIMIT_BYTES;
use flowyard_cas::{Packed, RootLink, Summary, digest_bytes, pack_code, pack_path};
use flowyard_model::Digest;

use super::artifacts::{ArtifactError, Artifacts};

/// Packs without storing: `fctl validate` stops there, a client then sends what the cluster misses.
#[derive(Debug, Default)]
pub struct Packing {
    /// Every packed path, by the digest of its manifest.
    pub packed: BTreeMap<Digest, Packed>,
    /// Item lists, by their digest.
    pub lists: BTreeMap<Digest, Vec<u8>>,
    /// Files and bytes of every folder of code, to be shown.
    pub code: Vec<(String, Summary)>,
}

impl Packing {
    fn keep(&mut self, packed: Packed) -> Digest {
        let digest = packed.manifest.digest();
        self.packed.insert(digest, packed);
        digest
    }
}

impl Artifacts for Packing {
    fn path(&mut self, path: &Path) -> Result<Digest, ArtifactError> {
        Ok(self.keep(pack_path(path, RootLink::Follow)?))
    }

    fn code(&mut self, folder: &Path) -> Result<Digest, ArtifactError> {
        let packed = pack_code(folder, CODE_LIMIT_BYTES)?;
        self.code.push((folder.display().to_string(), packed.summary()));
        Ok(self.keep(packed))
    }

    fn items(&mut self, blob: Vec<u8>) -> Result<Digest, ArtifactError> {
        let digest = digest_bytes(&blob);
        self.lists.insert(digest, blob);
        Ok(digest)
    }
}
