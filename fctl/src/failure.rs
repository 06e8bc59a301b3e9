//! Every way `fctl` can fail: what is said, what to do, and the exit code. The codes are documented in `docs/exit-codes.md`.

use std::process::ExitCode;

use flowyard_sdk::client::ClientError;
use flowyard_sdk::flow::FlowError;

use crate::output;
use crate::signals::Stop;

/// A failure of the command itself; a job that failed has its own codes in [`codes`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A flow or a flag is wrong.
    #[error("{0}")]
    Usage(String),
    /// A flow file is wrong.
    #[error("{0}")]
    Flow(#[from] FlowError),
    /// There is no cluster to talk to.
    #[error("{0}")]
    NoCluster(String),
    /// The cluster refused, or failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A local file cannot be read or written.
    #[error("{path}: {source}")]
    Local {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The home of the embedded cluster cannot be used.
    #[error("{0}")]
    Home(String),
    /// It was asked to end before it was done.
    #[error("{what}: interrupted")]
    Stopped {
        /// How.
        stop: Stop,
        /// What was not done.
        what: String,
    },
    /// A fault of ours.
    #[error("internal fault: {0}")]
    Internal(String),
}

/// Exit codes that are ours. 0 is success; a one-task job passes on the code of its task.
pub(crate) mod codes {
    /// A flow, flag or reference is wrong.
    pub(crate) const USAGE: u8 = 110;
    /// No cluster answers.
    pub(crate) const NO_CLUSTER: u8 = 111;
    /// The cluster refused the wish.
    pub(crate) const REFUSED: u8 = 112;
    /// What was asked for does not exist.
    pub(crate) const NOT_FOUND: u8 = 113;
    /// The job failed, and it has more than one task or no exit code.
    pub(crate) const JOB_FAILED: u8 = 114;
    /// The job was cancelled.
    pub(crate) const JOB_CANCELLED: u8 = 115;
    /// Interrupted while waiting; the job goes on.
    pub(crate) const DETACHED: u8 = 116;
    /// A local file cannot be read or written.
    pub(crate) const LOCAL: u8 = 117;
    /// The home of the embedded cluster cannot be used.
    pub(crate) const HOME: u8 = 118;
    /// A fault of ours.
    pub(crate) const INTERNAL: u8 = 119;
    /// As the shell has it: 128 and the number of SIGINT.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// The same with SIGTERM.
    pub(crate) const TOLD: u8 = 143;
}

impl Failure {
    /// A local file that cannot be used.
    pub(crate) fn local(path: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_string();
        move |source| Self::Local { path, source }
    }

    /// The exit code of this failure.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Flow(error) if error.unreadable => codes::LOCAL,
            Self::Usage(_) | Self::Flow(_) => codes::USAGE,
            Self::NoCluster(_) => codes::NO_CLUSTER,
            Self::Local { .. } => codes::LOCAL,
            Self::Home(_) => codes::HOME,
            Self::Stopped { stop: Stop::Interrupted, .. } => codes::INTERRUPTED,
            Self::Stopped { stop: Stop::Told, .. } => codes::TOLD,
            Self::Internal(_) => codes::INTERNAL,
            Self::Client(error) => match error {
                ClientError::Unreachable { .. } | ClientError::Unavailable(_) | ClientError::Busy { .. } => {
                    codes::NO_CLUSTER
                }
                ClientError::NotFound(_) => codes::NOT_FOUND,
                ClientError::Refused(_) | ClientError::NotStored(_) | ClientError::Changed { .. } => codes::REFUSED,
                ClientError::Local { .. } => codes::LOCAL,
                ClientError::Damaged { .. } | ClientError::Fault(_) => codes::INTERNAL,
            },
        }
    }

    /// Says it on standard error, with its causes.
    pub(crate) fn report(&self) -> ExitCode {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            let said = source.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = source.source();
        }
        output::error(&text);
        ExitCode::from(self.code())
    }
}
