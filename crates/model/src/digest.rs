//! What names a blob.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The BLAKE3 hash of some bytes together with their length. Two blobs with the same digest are the same blob.
///
/// Text form: 64 lower-case hexadecimal digits, a dash, the length in bytes (`"af13...62-1024"`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// BLAKE3, 256 bits.
    pub hash: [u8; 32],
    /// Length of the blob in bytes.
    pub length: u64,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest (64 hexadecimal digits, a dash, the length in bytes)")]
pub struct DigestError(pub String);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.hash {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}", self.length)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.hash[..4] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "..-{}", self.length)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse(text).ok_or_else(|| DigestError(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<Digest> {
    let (hex, length) = text.split_once('-')?;
    if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let canonical = length == "0" || !length.starts_with('0');
    if !canonical || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest { hash, length: length.parse().ok()? })
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_read_back_and_has_one_spelling() {
        let digest = Digest { hash: [0xab; 32], length: 1024 };
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let hex = "ab".repeat(32);
        for bad in [
            "",
            "ab-1",
            &hex,
            &format!("{hex}-"),
            &format!("{hex}-01"),
            &format!("{hex}-+1"),
            &format!("{}-1", hex.to_uppercase()),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad} was taken for a digest");
        }
    }
}
