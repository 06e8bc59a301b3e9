//! `cargo xtask fix`: the one command that changes files. What it cannot fix, `check` explains.

use crate::program::succeeds;
use crate::workspace::Workspace;

/// Applies what clippy can apply, then formats, since a fix may leave lines that are not.
pub(crate) fn run(workspace: &Workspace) -> Result<bool, String> {
    let clippy = ["clippy", "--fix", "--workspace", "--all-targets", "--allow-dirty", "--allow-staged"];
    succeeds(&mut workspace.cargo(&clippy))?;
    succeeds(&mut workspace.cargo(&["fmt", "--all"]))?;
    Ok(true)
}
