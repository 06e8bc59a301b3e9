//! `cargo xtask fuzz`: hands its arguments to the program that throws hostile bytes at every decoder.

use crate::program::succeeds;
use crate::workspace::Workspace;

/// Runs it; it ends with an error when a decoder took an input badly.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let mut command =
        workspace.cargo(&["run", "--quiet", "--release", "--package", "flowyard-fuzz", "--bin", "fuzz", "--"]);
    Ok(succeeds(command.args(arguments)).inspect_err(|how| eprintln!("{how}")).is_ok())
}
