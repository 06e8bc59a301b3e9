//! What can go wrong when a container is made. Messages are for the person who runs the node, except [`RuntimeError::Command`].

use std::io;
use std::path::PathBuf;

use super::spec::ExitCause;

/// Why a container could not be made, started or removed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// This host refuses containers to this user. Names both remedies.
    #[error(
        "containers cannot be made here: {what}: {source}; allow unprivileged user namespaces (sysctl \
         kernel.unprivileged_userns_clone=1, user.max_user_namespaces=15000, and where it exists \
         kernel.apparmor_restrict_unprivileged_userns=0), or submit with --isolation process"
    )]
    Unavailable {
        /// The step that was refused.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A step of making or removing a container failed.
    #[error("{what}: {source}")]
    Step {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A step on a path failed.
    #[error("{what} {}: {source}", path.display())]
    Path {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container library or binary refused.
    #[error("{0}")]
    Refused(String),
    /// The specification cannot be met.
    #[error("{0}")]
    Spec(String),
    /// The user's program could not be executed.
    #[error("{message}")]
    Command {
        /// 127 not found, 126 not executable, as shells have it.
        code: i32,
        /// What a user should read.
        message: String,
    },
    /// The container ended before the user's program was started.
    #[error("the container ended before the program started{}", .0.as_deref().map(|t| format!(": {t}")).unwrap_or_default())]
    Died(Option<String>),
}

impl RuntimeError {
    /// The error of the last system call, with what was tried.
    pub(crate) fn last_os(what: &'static str) -> Self {
        Self::Step { what, source: io::Error::last_os_error() }
    }

    /// How an attempt that met this error ended.
    pub fn into_exit_cause(self) -> ExitCause {
        match self {
            Self::Command { code, message } => ExitCause::CommandFailed { code, message },
            other => ExitCause::StartFailed { message: other.to_string() },
        }
    }
}
