//! Names that users give. A name that exists is valid: the check is made once, where it enters.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits;

/// Name of a step, artifact, flow parameter, label or token: a letter or digit, then letters, digits, `_`, `-` or `.`;
/// at most [`limits::NAME_BYTES`] bytes. Harmless to terminals, file systems and shells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than allowed.
    #[error("a name has at most {most} bytes, this one has {bytes}", most = limits::NAME_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The first character is not a letter or digit.
    #[error("a name starts with a letter or a digit, not with {found:?}")]
    BadStart {
        /// The character.
        found: char,
    },
    /// A character that a name cannot have.
    #[error(
        "a name consists of letters a-z A-Z, digits, `_`, `-` and `.`; {found:?} at position {position} is none of them"
    )]
    BadCharacter {
        /// The character.
        found: char,
        /// Counted from 1.
        position: usize,
    },
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > limits::NAME_BYTES {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::BadStart { found: first });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if let Some((at, found)) = text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
            return Err(NameError::BadCharacter { found, position: at + 1 });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Path of a queue in the tenant tree: names joined by `/`, the root left out (`default`, `research/vision`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct QueuePath(String);

/// Why a text is not a queue path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueuePathError {
    /// A part is not a name.
    #[error("part {part} of a queue path: {source}")]
    Part {
        /// Counted from 1.
        part: usize,
        /// What is wrong with it.
        source: NameError,
    },
    /// More parts than allowed.
    #[error("a queue path has at most {most} parts, this one has {parts}", most = limits::QUEUE_DEPTH)]
    TooDeep {
        /// Its parts.
        parts: usize,
    },
}

impl QueuePath {
    /// The queue that exists in every cluster and takes jobs that name none.
    pub fn fallback() -> Self {
        Self("default".to_owned())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The paths of the queues above it, from the top, and then its own.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &str> {
        let ends = self.0.match_indices('/').map(|(at, _)| at).chain([self.0.len()]);
        ends.map(|end| &self.0[..end])
    }

    /// The queue at the top of its tree: whose work it is, where each tenant has a tree.
    pub fn tenant(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// Whether this is the other queue or above it.
    pub fn covers(&self, other: &Self) -> bool {
        let below = other.0.strip_prefix(&self.0);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Paths are ordered as their texts are.
impl Borrow<str> for QueuePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueuePath {
    type Err = QueuePathError;

    fn from_str(text: &str) -> Result<Self, QueuePathError> {
        let parts = text.split('/').count();
        if parts > limits::QUEUE_DEPTH {
            return Err(QueuePathError::TooDeep { parts });
        }
        for (at, part) in text.split('/').enumerate() {
            part.parse::<Name>().map_err(|source| QueuePathError::Part { part: at + 1, source })?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for QueuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for QueuePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_harm_a_terminal_or_a_path_do_not_exist() {
        for bad in
            ["", ".", "..", "-x", "_x", "a/b", "a b", "a\u{1b}[31m", "a\n", "ä", &"x".repeat(limits::NAME_BYTES + 1)]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was taken for a name");
        }
        for good in ["a", "7", "train.v2", "A_b-c", &"x".repeat(limits::NAME_BYTES)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn the_levels_of_a_queue_lead_from_the_top_to_it() {
        let levels = |path: &str| path.parse::<QueuePath>().unwrap().levels().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(levels("a"), ["a"]);
        assert_eq!(levels("a/bc/d"), ["a", "a/bc", "a/bc/d"]);
    }

    #[test]
    fn queue_paths_are_names_joined_by_slashes() {
        assert!("research/vision".parse::<QueuePath>().is_ok());
        for bad in ["", "/", "a/", "/a", "a//b", "a/../b", &["a"; limits::QUEUE_DEPTH + 1].join("/")] {
            assert!(bad.parse::<QueuePath>().is_err(), "{bad:?} was taken for a queue path");
        }
    }
}
