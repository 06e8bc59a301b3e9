//! Random bytes, and what is kept of secrets.

use std::fmt;

use flowyard_model::Fingerprint;
use rustls::crypto::aws_lc_rs;
use zeroize::Zeroize;

/// Separates the hashes of secrets from all other uses of BLAKE3.
const CONTEXT: &str = "flowyard 2026-11-21 hash of a token's secret";

/// A secret of 256 bits. It is shown by no `Debug`, and wiped when dropped.
#[derive(Clone)]
pub struct Secret(pub(crate) [u8; 32]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Compared by their hashes, for the reason given at [`Secret::matches`].
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.hash())
    }
}

impl Eq for Secret {}

impl Secret {
    /// A new one.
    pub fn random() -> Self {
        Self(random())
    }

    /// Its bytes, to be shown to a coordinator that was verified.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The secret that somebody shows.
    pub fn shown(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What is kept of it.
    pub fn hash(&self) -> Fingerprint {
        Fingerprint(blake3::derive_key(CONTEXT, &self.0))
    }

    /// Whether this is the secret that `hash` was kept of; takes as long for a near miss as for a far one.
    pub fn matches(&self, hash: &Fingerprint) -> bool {
        // Comparing two `blake3::Hash` is constant in time, which comparing arrays is not.
        blake3::Hash::from_bytes(self.hash().0) == blake3::Hash::from_bytes(hash.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Random bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    filled.unwrap_or_else(|error| panic!("the system gives no random bytes: {error:?}"));
    bytes
}

/// The fingerprint of some bytes: of a certificate, or a public key.
pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Fingerprint(*blake3::hash(bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_its_own_hash_only_and_shows_itself_to_nobody() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_ne!(one, other);
        assert!(one.matches(&one.hash()));
        assert!(!one.matches(&other.hash()));
        assert_ne!(one.hash().0, one.0, "the hash is not the secret");
        assert_eq!(format!("{one:?}"), "Secret(..)");
    }
}
