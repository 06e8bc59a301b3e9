//! Secrets: kept encrypted, told to the agents whose tasks are given them, and to nobody else.
//!
//! The ciphertext is a blob; the state names it. The keys are in one file of each coordinator's folder and in its memory. The leader
//! makes them and hands them to the others before it uses them, so that whichever coordinator is asked can open a secret.
//!
//! Reading order: [`Vault`], `keeping` (what people do with secrets), `telling` (what agents are told), `handing` (keys between
//! coordinators).

mod handing;
mod keeping;
mod telling;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use flowyard_identity::{Keyring, KeyringError, Plain, SealError};
use flowyard_model::{Fingerprint, KeptSecret, Name};
use flowyard_state::View;
use tokio::sync::Mutex;

pub(crate) use handing::{Only, hand_over, hand_to};
pub(crate) use keeping::SecretsEndpoint;
pub(crate) use telling::tell;

/// The file of the keys in a coordinator's folder.
pub(crate) fn keys_file(folder: &Path) -> PathBuf {
    folder.join("secrets.key")
}

/// The keys of secrets that this coordinator has; cheap to clone.
#[derive(Clone)]
pub(crate) struct Vault {
    path: PathBuf,
    keys: Arc<RwLock<Keyring>>,
    /// Held by whoever changes keys or secrets.
    changing: Arc<Mutex<()>>,
}

impl Vault {
    /// Those in the coordinator's folder.
    ///
    /// # Errors
    /// When they cannot be read, or others could have read them.
    pub(crate) fn open(folder: &Path) -> Result<Self, KeyringError> {
        let path = keys_file(folder);
        let keys = Keyring::load(&path)?;
        Ok(Self { path, keys: Arc::new(RwLock::new(keys)), changing: Arc::default() })
    }

    /// What is done with the keys as they are.
    fn with<T>(&self, read: impl FnOnce(&Keyring) -> T) -> T {
        read(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the keys, in the file before anywhere else.
    fn change<T>(&self, change: impl FnOnce(&mut Keyring) -> T) -> Result<T, KeyringError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = keys.clone();
        let outcome = change(&mut changed);
        if changed.fingerprints() != keys.fingerprints() {
            changed.save(&self.path)?;
            *keys = changed;
        }
        Ok(outcome)
    }

    /// What its keys are known by.
    pub(crate) fn fingerprints(&self) -> Vec<Fingerprint> {
        self.with(Keyring::fingerprints)
    }

    /// The keys, for another coordinator.
    pub(crate) fn text(&self) -> String {
        self.with(|keys| keys.to_text().to_string())
    }

    /// The key that seals: that of the secret which was kept last, since every coordinator has that one, or the newest here.
    fn sealing(&self, view: &View) -> Option<Fingerprint> {
        let last = view.secrets().max_by_key(|(_, kept)| kept.revision).map(|(_, kept)| kept.key);
        self.with(|keys| last.filter(|key| keys.has(key)).or_else(|| keys.fingerprints().last().copied()))
    }

    fn seal(&self, key: &Fingerprint, cluster: &str, name: &Name, plain: &Plain) -> Result<Vec<u8>, SealError> {
        self.with(|keys| keys.seal(key, cluster, name, plain))
    }

    fn open_sealed(&self, cluster: &str, name: &Name, sealed: &[u8]) -> Result<Plain, SealError> {
        self.with(|keys| keys.open(cluster, name, sealed))
    }

    fn has(&self, kept: &KeptSecret) -> bool {
        self.with(|keys| keys.has(&kept.key))
    }
}
