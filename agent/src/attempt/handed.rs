//! What was handed to the launcher for an attempt, as the attempt's folder keeps it for the next agent.
//!
//! It is written before the launcher is asked. So whoever finds none may begin the attempt anew, and whoever finds one does not
//! know whether the launcher ever heard of it: the request may have died with the agent that was about to send it. Therefore it
//! names the launcher, which alone can tell the two apart, as long as it lives.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::runtime::spec::LaunchSpec;

/// Its name in the folder: once it is there, the attempt is not begun anew.
pub(crate) const LAUNCHED: &str = "launched";
/// What it is called while it is written.
const PART: &str = "launched.part";

/// A request to the launcher, and whom it was meant for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handed {
    /// What is to run.
    #[serde(flatten)]
    pub spec: LaunchSpec,
    /// The launcher that served then: it, or a later one, was asked. `None` for one of a release that does not say who it is.
    #[serde(default)]
    pub launcher: Option<String>,
}

impl Handed {
    /// Puts it into its attempt's folder: whole, or not at all, wherever this process is killed.
    pub(crate) fn write(&self) -> io::Result<()> {
        let part = self.spec.folder.join(PART);
        // Variables may be private.
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        std::fs::rename(part, self.spec.folder.join(LAUNCHED))
    }

    /// What lies in the folder of an attempt, if that can be read.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(LAUNCHED)).ok()?).ok()
    }
}

/// What was handed to the launcher for the attempt in `folder`, if anything was.
pub(crate) fn launched(folder: &Path) -> Option<LaunchSpec> {
    Handed::read(folder).map(|handed| handed.spec)
}
