//! The keys that secrets are encrypted with, in one file that only its owner may read, beside the authority's key.
//!
//! A secret is sealed with AES-256-GCM under one of them. The name of the secret and the cluster are authenticated with it, so that
//! one ciphertext cannot be put in the place of another. Which key was used is in the ciphertext; the newest key seals.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use flowyard_model::{Fingerprint, Name};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::secret::{Secret, fingerprint};

const MAGIC: &[u8; 8] = b"FYSEALD\x01";
const TAG: &str = "FLOWYARD SECRET KEY";
/// Most keys in one file.
const KEYS: usize = 64;

/// What a secret is. It is shown by no `Debug` and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain(Zeroizing<Vec<u8>>);

impl Plain {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever may have them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(..)")
    }
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no key to seal with.
    #[error("there is no key to encrypt secrets with")]
    NoKey,
    /// The key is not here.
    #[error("the key {0} that it was encrypted with is not here")]
    LostKey(Fingerprint),
    /// It is no ciphertext, was changed, or is another secret's.
    #[error("it is not what was encrypted under this name")]
    Altered,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it.
    #[error("{0} holds no keys for secrets")]
    Unreadable(String),
}

/// The keys, the newest last.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Vec<Secret>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fingerprints()).finish()
    }
}

impl Keyring {
    /// The keys in a file; none if it does not exist.
    ///
    /// # Errors
    /// When it cannot be read, others could have read it, or it holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyringError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = files::read_private(path)?;
        Self::from_text(&text).ok_or_else(|| KeyringError::Unreadable(path.display().to_string()))
    }

    /// Writes them to a file that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), KeyringError> {
        if self.keys.is_empty() && !path.exists() {
            return Ok(());
        }
        Ok(files::write_private(path, &self.to_text())?)
    }

    /// As another coordinator of the cluster is given them.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.keys {
            text.push_str(&Zeroizing::new(pem::encode(&pem::Pem::new(TAG, key.bytes().to_vec()))));
        }
        text
    }

    /// What [`Keyring::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        let parsed = pem::parse_many(text).ok()?;
        let key = |pem: &pem::Pem| {
            let bytes = <[u8; 32]>::try_from(pem.contents()).ok().filter(|_| pem.tag() == TAG);
            bytes.map(Secret::shown)
        };
        let keys: Vec<Secret> = parsed.iter().map(key).collect::<Option<_>>()?;
        (!keys.is_empty() && keys.len() <= KEYS).then_some(Self { keys })
    }

    /// What the keys are known by, the newest last.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.keys.iter().map(id).collect()
    }

    /// Adds a new key, which is the newest.
    pub fn grow(&mut self) -> Fingerprint {
        let key = Secret::random();
        let known = id(&key);
        self.keys.push(key);
        known
    }

    /// Adds what another one has and this one lacks; whether that was anything.
    pub fn add(&mut self, other: &Self) -> bool {
        let own = self.fingerprints();
        let fresh: Vec<_> = other.keys.iter().filter(|key| !own.contains(&id(key))).cloned().collect();
        let grown = !fresh.is_empty();
        self.keys.extend(fresh);
        grown
    }

    /// Forgets all but these; whether anything was forgotten.
    pub fn keep(&mut self, keys: &[Fingerprint]) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| keys.contains(&id(key)));
        self.keys.len() < before
    }

    /// Whether this key is among them.
    pub fn has(&self, key: &Fingerprint) -> bool {
        self.keys.iter().any(|own| id(own) == *key)
    }

    /// Encrypts a secret with this key.
    ///
    /// # Errors
    /// When the key is not here.
    pub fn seal(&self, key: &Fingerprint, cluster: &str, name: &Name, plain: &Plain) -> Result<Vec<u8>, SealError> {
        let cipher = self.cipher(key)?;
        let mut sealed = plain.bytes().to_vec();
        // Encryption of a short text in memory cannot fail; were it ever to, nothing is sealed.
        let nonce = cipher.seal_in_place_append_tag(about(cluster, name), &mut sealed);
        let nonce = nonce.map_err(|_| SealError::Altered)?;
        let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
        Ok([MAGIC.as_slice(), &key.0, nonce, &sealed].concat())
    }

    /// What was sealed under this name.
    ///
    /// # Errors
    /// When its key is not here, or it is not what was sealed.
    pub fn open(&self, cluster: &str, name: &Name, sealed: &[u8]) -> Result<Plain, SealError> {
        let rest = sealed.strip_prefix(MAGIC.as_slice()).ok_or(SealError::Altered)?;
        let (key, rest) = rest.split_first_chunk::<32>().ok_or(SealError::Altered)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Altered)?;
        let cipher = self.cipher(&Fingerprint(*key))?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let opened = cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), about(cluster, name), &mut bytes);
        Ok(Plain::new(opened.map_err(|_| SealError::Altered)?.to_vec()))
    }

    fn cipher(&self, key: &Fingerprint) -> Result<RandomizedNonceKey, SealError> {
        let found = self.keys.iter().find(|own| id(own) == *key).ok_or(SealError::LostKey(*key))?;
        RandomizedNonceKey::new(&AES_256_GCM, found.bytes()).map_err(|_| SealError::NoKey)
    }
}

/// What a key is known by, in the state too. The key is random, so its hash tells nothing of it.
fn id(key: &Secret) -> Fingerprint {
    fingerprint(&key.hash().0)
}

fn about(cluster: &str, name: &Name) -> Aad<Vec<u8>> {
    Aad::from(format!("flowyard secret\0{cluster}\0{name}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_under_its_own_name_and_cluster_only() {
        let mut ring = Keyring::default();
        let key = ring.grow();
        let plain = Plain::new(b"open sesame".to_vec());
        let sealed = ring.seal(&key, "lab", &name("API_KEY"), &plain).unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"open"), "it can be read in the ciphertext");
        assert_eq!(ring.open("lab", &name("API_KEY"), &sealed), Ok(plain.clone()));
        assert_eq!(ring.open("lab", &name("OTHER"), &sealed), Err(SealError::Altered));
        assert_eq!(ring.open("other", &name("API_KEY"), &sealed), Err(SealError::Altered));
        for at in [0, 50, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(ring.open("lab", &name("API_KEY"), &altered), Err(SealError::Altered), "byte {at}");
        }
        assert_ne!(ring.seal(&key, "lab", &name("API_KEY"), &plain).unwrap(), sealed, "no nonce comes twice");
        ring.keep(&[]);
        assert_eq!(ring.open("lab", &name("API_KEY"), &sealed), Err(SealError::LostKey(key)));
    }

    #[test]
    fn keys_are_kept_in_a_file_for_their_owner_and_handed_on_as_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let mut ring = Keyring::load(&path).unwrap();
        assert!(ring.fingerprints().is_empty());
        let (old, new) = (ring.grow(), ring.grow());
        ring.save(&path).unwrap();
        let again = Keyring::load(&path).unwrap();
        assert_eq!(again.fingerprints(), [old, new]);
        let mut other = Keyring::default();
        assert!(other.add(&Keyring::from_text(&ring.to_text()).unwrap()) && !other.add(&ring));
        assert!(other.keep(&[new]) && other.has(&new) && !other.has(&old));
        std::fs::write(&path, "something else").unwrap();
        assert!(Keyring::load(&path).is_err());
    }

    #[test]
    fn a_secret_and_its_keys_show_themselves_to_no_log() {
        let mut ring = Keyring::default();
        ring.grow();
        let shown = format!("{ring:?} {:?}", Plain::new(b"open sesame".to_vec()));
        assert!(shown.ends_with("Plain(..)") && !shown.contains("sesame"), "{shown}");
        assert!(!shown.contains(&pem::encode(&pem::Pem::new(TAG, ring.keys[0].bytes().to_vec()))[30..60]), "{shown}");
    }
}
