//! Who is who in a cluster: its own authority, short-lived certificates that name one subject each, TLS 1.3 in both directions,
//! and the tokens that let someone in for the first time.
//!
//! It owns keys, certificates and their files, and judges who is on the other end of a connection. It must not know what
//! anybody may do (that is the coordinator's `access`), nor what was revoked (it is told by a function), nor read any clock
//! but the one it is given.
//!
//! Reading order: [`Claim`] (what a certificate says), [`Authority`] (who issues it), [`Trust`] (who is believed), [`Credential`]
//! (what we show), [`accept`] and [`Connector`] (both ends of a connection), [`Renewal`], [`JoinToken`].

mod accept;
mod authority;
mod base32;
mod certificate;
mod clock;
mod connect;
mod credential;
mod doors;
mod files;
mod judged;
mod keyring;
mod refused;
mod renewal;
mod rooms;
mod secret;
mod subject;
mod token;
mod trust;
mod verifier;

pub use accept::{Accepted, Bounds, Gate, Told, accept};
pub use authority::{
    Authority, AuthorityError, CLOCK_ALLOWANCE_MS, IssueError, Issued, LAPSED_MS, LONGEST_NODE_LIFE_MS,
    LONGEST_PERSON_LIFE_MS, NODE_LIFE_MS, Order, REQUEST_BYTES, longest, request_fingerprint,
};
pub use certificate::Identified;
pub use clock::Clock;
pub use connect::{ConnectError, Connector, Introduction, introduce};
pub use credential::{Credential, CredentialError, Current, KeyRequest};
pub use doors::{Doors, NoDoor};
pub use files::FileError;
pub use judged::{Judged, Open};
pub use keyring::{Keyring, KeyringError, Plain, SealError};
pub use refused::{Refused, explain};
pub use renewal::{RenewError, Renewal, SignError};
pub use rooms::Shown;
pub use rustls::pki_types::CertificateDer as Certificate;
pub use secret::{Secret, fingerprint};
pub use subject::{Claim, ClusterId, Subject, SubjectError};
pub use token::{ApiToken, JoinToken, TokenError};
pub use trust::{ShutOut, Side, Trust};
pub use verifier::Certificates;
