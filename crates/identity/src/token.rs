//! The tokens that people paste.
//!
//! A token to join says where the cluster is, what its authority's fingerprint is, and proves with a secret that its bearer was
//! invited. A token of the API says the same and proves who calls. Of both, the cluster keeps the hash of the secret only.

use std::fmt;
use std::str::FromStr;

use flowyard_model::{Fingerprint, TokenId};
use zeroize::{Zeroize, Zeroizing};

use crate::base32::{self, Undecodable};
use crate::secret::Secret;

const JOIN: &str = "fyt1-";
const API: &str = "fya1-";
/// Longest text that is looked at.
const TEXT_BYTES: usize = 4_096;
/// Most addresses in one token.
const ADDRESSES: usize = 16;
/// Most bytes of an address.
const ADDRESS_BYTES: usize = 255;
const CHECKSUM_BYTES: usize = 4;

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins otherwise.
    #[error("a token begins with `{expected}`; this begins otherwise")]
    NoToken {
        /// As it should.
        expected: &'static str,
    },
    /// The other kind.
    #[error("this is {found}, and {expected} is needed here")]
    OtherKind {
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A later release made it.
    #[error("this token was made by a newer release of Flowyard; use that release here too")]
    Newer,
    /// A character no token has.
    #[error("a token has no `{found}`; character {position} after the dash is wrong")]
    Character {
        /// The character.
        found: char,
        /// Counted from 1.
        position: usize,
    },
    /// Cut off, or with a wrong character.
    #[error("the token is not whole: a part is missing or a character is wrong. Copy the whole line again")]
    Damaged,
    /// Longer than any.
    #[error("a token has at most {TEXT_BYTES} characters, this has {0}")]
    TooLong(usize),
}

/// Lets a node join a cluster it does not know yet.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Which token it is.
    pub id: TokenId,
    /// Proves that its bearer was invited.
    pub secret: Secret,
    /// Fingerprint of the certificate of the cluster's authority.
    pub authority: Fingerprint,
    /// Where coordinators answer, as host:port.
    pub addresses: Vec<String>,
}

/// Lets a person call the API. It says where that is, too, so that it is all that a person needs.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Which token it is.
    pub id: TokenId,
    /// Proves who calls.
    pub secret: Secret,
    /// Fingerprint of the certificate of the cluster's authority.
    pub authority: Fingerprint,
    /// Where coordinators answer, as host:port.
    pub addresses: Vec<String>,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, .., {:?})", self.id, self.addresses)
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({}, .., {:?})", self.id, self.addresses)
    }
}

impl JoinToken {
    /// The line to paste. It is not `Display`, so that no log has it by accident. Addresses beyond the sixteenth, and those
    /// longer than a host's name can be, are left out.
    pub fn to_text(&self) -> Zeroizing<String> {
        write(JOIN, self.id, &self.secret, self.authority, &self.addresses)
    }
}

impl ApiToken {
    /// The line to paste; see [`JoinToken::to_text`].
    pub fn to_text(&self) -> Zeroizing<String> {
        write(API, self.id, &self.secret, self.authority, &self.addresses)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (id, secret, authority, addresses) = read(JOIN, text)?;
        Ok(Self { id, secret, authority, addresses })
    }
}

impl FromStr for ApiToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (id, secret, authority, addresses) = read(API, text)?;
        Ok(Self { id, secret, authority, addresses })
    }
}

fn write(
    prefix: &str,
    id: TokenId,
    secret: &Secret,
    authority: Fingerprint,
    addresses: &[String],
) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(start(id, secret));
    bytes.extend_from_slice(&authority.0);
    let short = addresses.iter().filter(|address| address.len() <= ADDRESS_BYTES);
    for address in short.take(ADDRESSES) {
        bytes.push(address.len() as u8);
        bytes.extend_from_slice(address.as_bytes());
    }
    text(prefix, &bytes)
}

type Read = (TokenId, Secret, Fingerprint, Vec<String>);

fn read(prefix: &'static str, text: &str) -> Result<Read, TokenError> {
    let bytes = bytes(prefix, text)?;
    let (id, secret, rest) = read_start(&bytes)?;
    let (authority, mut rest) = rest.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
    let mut addresses = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (address, after) = after.split_at_checked(usize::from(*length)).ok_or(TokenError::Damaged)?;
        let address = std::str::from_utf8(address).map_err(|_| TokenError::Damaged)?;
        if addresses.len() == ADDRESSES || address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Damaged);
        }
        addresses.push(address.to_owned());
        rest = after;
    }
    Ok((id, secret, Fingerprint(*authority), addresses))
}

fn start(id: TokenId, secret: &Secret) -> Vec<u8> {
    // Room for all of it, so that no copy of the secret is left behind by growing.
    let mut bytes = Vec::with_capacity(TEXT_BYTES);
    bytes.extend_from_slice(&id.0.to_be_bytes());
    bytes.extend_from_slice(&secret.0);
    bytes
}

fn read_start(bytes: &[u8]) -> Result<(TokenId, Secret, &[u8]), TokenError> {
    let (id, rest) = bytes.split_first_chunk::<8>().ok_or(TokenError::Damaged)?;
    let (secret, rest) = rest.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
    Ok((TokenId(u64::from_be_bytes(*id)), Secret(*secret), rest))
}

fn text(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    let mut whole = Zeroizing::new(bytes.to_vec());
    whole.extend_from_slice(&checksum(prefix, bytes));
    let mut encoded = base32::encode(&whole);
    let text = Zeroizing::new(format!("{prefix}{encoded}"));
    encoded.zeroize();
    text
}

/// The bytes of a token of this kind, checked.
fn bytes(prefix: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    if text.len() > TEXT_BYTES {
        return Err(TokenError::TooLong(text.len()));
    }
    // Terminals break long lines, and mail indents them.
    let text: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
    let body = strip_prefix(&text, prefix).ok_or_else(|| not_this_kind(prefix, &text))?;
    let mut bytes = Zeroizing::new(base32::decode(body).map_err(|error| match error {
        Undecodable::Character { found, position } => TokenError::Character { found, position },
        Undecodable::Length => TokenError::Damaged,
    })?);
    let length = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(TokenError::Damaged)?;
    if checksum(prefix, &bytes[..length]) != bytes[length..] {
        return Err(TokenError::Damaged);
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, body) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(body)
}

fn not_this_kind(expected: &'static str, text: &str) -> TokenError {
    let name = |prefix: &str| if prefix == JOIN { "a token to join a cluster" } else { "a token of the API" };
    if let Some(found) = [JOIN, API].into_iter().find(|prefix| strip_prefix(text, prefix).is_some()) {
        return TokenError::OtherKind { found: name(found), expected: name(expected) };
    }
    let kind = &expected[..expected.len() - 2];
    let later = strip_prefix(text, kind).and_then(|rest| rest.split_once('-'));
    match later {
        Some((version, _)) if version.parse::<u32>().is_ok_and(|version| version > 1) => TokenError::Newer,
        _ => TokenError::NoToken { expected },
    }
}

/// Tells a bad paste from a wrong token; it protects nothing.
fn checksum(prefix: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prefix.as_bytes()).update(bytes);
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> JoinToken {
        JoinToken {
            id: TokenId(512),
            secret: Secret([7; 32]),
            authority: Fingerprint([9; 32]),
            addresses: vec!["10.0.0.1:7700".to_owned(), "[fd00::1]:7700".to_owned()],
        }
    }

    fn api(secret: Secret) -> ApiToken {
        ApiToken { id: TokenId(3), secret, authority: Fingerprint([9; 32]), addresses: vec!["a:1".to_owned()] }
    }

    #[test]
    fn a_token_is_read_back_however_it_was_pasted() {
        let text = join().to_text();
        assert_eq!(text.parse(), Ok(join()));
        let broken = format!("  {}\n   {}\r\n", &text[..40], &text[40..]);
        assert_eq!(broken.parse(), Ok(join()));
        assert_eq!(text.to_uppercase().parse(), Ok(join()));
        let api = api(Secret::random());
        assert_eq!(api.to_text().parse(), Ok(api));
    }

    #[test]
    fn a_bad_paste_is_told_from_a_token() {
        let text = join().to_text().to_string();
        for cut in JOIN.len()..text.len() {
            assert_eq!(text[..cut].parse::<JoinToken>(), Err(TokenError::Damaged), "cut at {cut}");
        }
        for at in JOIN.len()..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'7' { b'8' } else { b'7' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(wrong.parse::<JoinToken>(), Err(TokenError::Damaged), "changed at {at}");
        }
        let doubled = format!("{text}{}", &text[JOIN.len()..]);
        assert_eq!(doubled.parse::<JoinToken>(), Err(TokenError::Damaged));
        let typed = format!("{}u{}", &text[..8], &text[9..]);
        assert_eq!(typed.parse::<JoinToken>(), Err(TokenError::Character { found: 'u', position: 4 }));
    }

    #[test]
    fn what_is_not_such_a_token_is_named() {
        let api = api(Secret::random()).to_text();
        let other = TokenError::OtherKind { found: "a token of the API", expected: "a token to join a cluster" };
        assert_eq!(api.parse::<JoinToken>(), Err(other));
        assert_eq!("fyt2-abc".parse::<JoinToken>(), Err(TokenError::Newer));
        for nothing in ["", "fyt", "fyt-abc", "fytx-1", "hello", "fyt0-1", "\u{1f511}\u{1f511}"] {
            assert_eq!(nothing.parse::<JoinToken>(), Err(TokenError::NoToken { expected: JOIN }), "{nothing}");
        }
        let long = "fyt1-".to_owned() + &"0".repeat(TEXT_BYTES);
        assert!(matches!(long.parse::<JoinToken>(), Err(TokenError::TooLong(_))));
    }

    #[test]
    fn a_token_shows_its_secret_to_no_log() {
        let shown = format!("{:?}", join());
        assert_eq!(shown, r#"JoinToken(512, .., ["10.0.0.1:7700", "[fd00::1]:7700"])"#);
        let api = api(Secret([7; 32]));
        assert_eq!(format!("{api:?}"), r#"ApiToken(3, .., ["a:1"])"#);
    }
}
