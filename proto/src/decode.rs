//! What every decoder is made of: one error that names the field, and the few shapes that fields have.
//!
//! Must not know any message. A decoder adds its field to the path on the way out, so success costs nothing for it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Display;

use flowyard_model::{Name, NameError, QueuePathError};

/// Why bytes, or a message, are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{separator}{problem}", separator = if .path.is_empty() { "" } else { ": " })]
pub struct DecodeError {
    /// The field, as the contract spells it: `steps[3].resources.cpu_milli`. Empty for the message as a whole.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field or a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A message, an enum or a quantity that must be given is not.
    #[error("missing")]
    Missing,
    /// A number that no variant of the enum has.
    #[error("{number} is not a value this build knows")]
    UnknownValue {
        /// As given.
        number: i32,
    },
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not a queue path.
    #[error(transparent)]
    QueuePath(#[from] QueuePathError),
    /// A hash of another length.
    #[error("a hash has 32 bytes, this one has {bytes}")]
    HashLength {
        /// As given.
        bytes: usize,
    },
    /// One value twice in a set.
    #[error("given twice")]
    Duplicate,
    /// Ranges that are not a set.
    #[error("ranges must not be empty and must not overlap")]
    Ranges,
    /// More elements than the limit.
    #[error("at most {most}, these are {count}")]
    TooMany {
        /// The limit.
        most: usize,
        /// As given.
        count: usize,
    },
    /// A text, or a message, longer than the limit.
    #[error("at most {most} bytes, this has {bytes}")]
    TooLarge {
        /// The limit.
        most: usize,
        /// As given.
        bytes: usize,
    },
    /// A text with characters that could harm a terminal.
    #[error("must not have control characters")]
    ControlCharacter,
    /// Two fields that contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A format newer than this build.
    #[error("format {format} is not known to this build")]
    UnknownFormat {
        /// As given.
        format: u32,
    },
    /// An entry without a command this build knows.
    #[error("the command is not known to this build")]
    UnknownCommand,
    /// A record without a kind this build knows.
    #[error("the record is not known to this build")]
    UnknownRecord,
    /// Not a protobuf message.
    #[error("damaged message: {0}")]
    Malformed(#[from] prost::DecodeError),
}

impl Problem {
    /// Whether a newer build could have written this; otherwise the bytes are damaged, or their writer is wrong.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::UnknownFormat { .. } | Self::UnknownCommand | Self::UnknownRecord)
    }
}

impl<P: Into<Problem>> From<P> for DecodeError {
    fn from(problem: P) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }
}

impl From<Infallible> for Problem {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl DecodeError {
    /// The same problem seen from the message that has `field`.
    #[must_use]
    pub fn under(self, field: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{field}{separator}{path}", path = self.path), problem: self.problem }
    }
}

/// The result of decoding.
pub type Decoded<T> = Result<T, DecodeError>;

/// Adds a field to the path of an error.
pub trait Under<T> {
    /// The same result seen from the message that has `field`.
    fn under(self, field: &str) -> Decoded<T>;
    /// The same result seen from a repeated field.
    fn under_index(self, field: &str, index: impl Display) -> Decoded<T>;
}

impl<T, E: Into<DecodeError>> Under<T> for Result<T, E> {
    fn under(self, field: &str) -> Decoded<T> {
        self.map_err(|error| error.into().under(field))
    }

    fn under_index(self, field: &str, index: impl Display) -> Decoded<T> {
        self.map_err(|error| error.into().under(&format!("{field}[{index}]")))
    }
}

/// A closed enum of the model whose wire form is a number, 0 for "not given".
pub trait Closed: Sized {
    /// The variant with this number.
    fn from_number(number: i32) -> Option<Self>;
}

/// An error about one field.
pub fn problem(field: &str, problem: Problem) -> DecodeError {
    DecodeError { path: field.to_owned(), problem }
}

/// A message that must be given.
pub fn required<W, M: TryFrom<W>>(field: &str, value: Option<W>) -> Decoded<M>
where
    DecodeError: From<M::Error>,
{
    M::try_from(value.ok_or(Problem::Missing).under(field)?).under(field)
}

/// A message that may be left out.
pub fn optional<W, M: TryFrom<W>>(field: &str, value: Option<W>) -> Decoded<Option<M>>
where
    DecodeError: From<M::Error>,
{
    value.map(M::try_from).transpose().under(field)
}

/// A repeated message.
pub fn list<W, M: TryFrom<W>>(field: &str, values: Vec<W>) -> Decoded<Vec<M>>
where
    DecodeError: From<M::Error>,
{
    let mut list = Vec::with_capacity(values.len());
    for (at, value) in values.into_iter().enumerate() {
        list.push(M::try_from(value).under_index(field, at)?);
    }
    Ok(list)
}

/// A repeated value that stands for a set.
pub fn set<T: Ord>(field: &str, values: impl IntoIterator<Item = Decoded<T>>) -> Decoded<BTreeSet<T>> {
    let mut set = BTreeSet::new();
    for (at, value) in values.into_iter().enumerate() {
        let added = set.insert(value.under_index(field, at)?);
        if !added {
            return Err(Problem::Duplicate).under_index(field, at);
        }
    }
    Ok(set)
}

/// A map by names.
pub fn named<W, M: TryFrom<W>>(field: &str, values: BTreeMap<String, W>) -> Decoded<BTreeMap<Name, M>>
where
    DecodeError: From<M::Error>,
{
    let mut map = BTreeMap::new();
    for (key, value) in values {
        let key = name(field, &key)?;
        let value = M::try_from(value).under(key.as_str()).under(field)?;
        map.insert(key, value);
    }
    Ok(map)
}

/// A name.
pub fn name(field: &str, text: &str) -> Decoded<Name> {
    text.parse::<Name>().map_err(Problem::Name).under(field)
}

/// An enum that must be given.
pub fn closed<M: Closed>(field: &str, number: i32) -> Decoded<M> {
    let unknown = if number == 0 { Problem::Missing } else { Problem::UnknownValue { number } };
    M::from_number(number).ok_or(unknown).under(field)
}

/// A quantity that is at least 1.
pub fn positive<T: Default + PartialEq>(field: &str, quantity: T) -> Decoded<T> {
    if quantity == T::default() { Err(Problem::Missing).under(field) } else { Ok(quantity) }
}

/// A port, which is not 0.
pub fn port(field: &str, number: u32) -> Decoded<u16> {
    let port = u16::try_from(positive(field, number)?);
    port.map_err(|_| Problem::Contradiction("a port is at most 65535")).under(field)
}

/// At most so many elements.
pub fn at_most(field: &str, most: usize, count: usize) -> Decoded<()> {
    if count > most { Err(Problem::TooMany { most, count }).under(field) } else { Ok(()) }
}

/// At most so many bytes.
pub fn within(field: &str, most: usize, bytes: usize) -> Decoded<()> {
    if bytes > most { Err(Problem::TooLarge { most, bytes }).under(field) } else { Ok(()) }
}
