//! What can go wrong between a client and a cluster.

use std::time::Duration;

use flowyard_model::Digest;
use flowyard_proto::status::{NOT_STORED, rejection_kind, wait_asked_for};
use tonic::{Code, Status};

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no cluster answers at {endpoint}: {reason}")]
    Unreachable {
        /// Where it was tried.
        endpoint: String,
        /// What the connection said.
        reason: String,
    },
    /// The cluster cannot do it now; trying again later may help.
    #[error("the cluster cannot do this now: {0}")]
    Unavailable(String),
    /// The cluster takes no more of this for now, and says when to try again.
    #[error("the cluster cannot do this now: {message}")]
    Busy {
        /// What it said.
        message: String,
        /// How long to wait.
        wait: Duration,
    },
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The wish was refused; trying it unchanged is pointless.
    #[error("{0}")]
    Refused(String),
    /// The job names blobs that have to be uploaded first.
    #[error("{0}")]
    NotStored(String),
    /// A file was changed between hashing and sending it.
    #[error("{path} changed while it was being sent; submit again once nothing writes to it")]
    Changed {
        /// The file.
        path: String,
    },
    /// A local file could not be read or written.
    #[error("{path}: {source}")]
    Local {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Bytes that are not what their digest says.
    #[error("blob {digest} arrived damaged; it was not used")]
    Damaged {
        /// Which.
        digest: Digest,
    },
    /// A fault of the cluster.
    #[error("the cluster failed: {0}")]
    Fault(String),
}

impl ClientError {
    /// Sorts what the transport or the cluster said; `endpoint` is where it was asked.
    pub fn from_status(endpoint: &str, status: Status) -> Self {
        let message = status.message().to_owned();
        if let Some(wait) = wait_asked_for(&status) {
            return Self::Busy { message, wait };
        }
        match status.code() {
            // Whatever the transport calls it, a broken connection is one.
            _ if is_connection(&status) => {
                Self::Unreachable { endpoint: endpoint.to_owned(), reason: root_cause(&status) }
            }
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted => {
                Self::Unavailable(message)
            }
            // The connection broke in the middle of an answer: whoever served it is gone.
            Code::Internal | Code::Unknown if is_connection(&status) => Self::Unavailable(message),
            Code::NotFound => Self::NotFound(message),
            Code::FailedPrecondition if rejection_kind(&status) == Some(NOT_STORED) => Self::NotStored(message),
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Aborted
            | Code::OutOfRange => Self::Refused(message),
            Code::Unimplemented if message.is_empty() => Self::Refused(
                "this cluster does not know the call: it is of an older release than this program".to_owned(),
            ),
            Code::Unimplemented => Self::Refused(message),
            _ => Self::Fault(message),
        }
    }

    /// Whether trying again, here or elsewhere, may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unavailable(_) | Self::Busy { .. })
    }
}

/// A status that the transport made up has a source; one that a server sent has none.
fn is_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn root_cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
