//! `cargo xtask crash`: hands its arguments to the program that cuts the power under what is kept on disk.

use crate::program::succeeds;
use crate::workspace::Workspace;

/// Runs the chains; it ends with an error when a promise was broken or a disk was refused.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let mut command = workspace.cargo(&["run", "--quiet", "--package", "flowyard-crash", "--bin", "crash", "--"]);
    Ok(succeeds(command.args(arguments)).inspect_err(|how| eprintln!("{how}")).is_ok())
}
