//! `cargo xtask sim`: hands its arguments to the simulator, built with optimisation because seeds are many.

use crate::program::succeeds;
use crate::workspace::Workspace;

/// Runs the simulator; it ends with an error when a history breaks a property.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let mut command =
        workspace.cargo(&["run", "--quiet", "--release", "--package", "flowyard-sim", "--bin", "sim", "--"]);
    Ok(succeeds(command.args(arguments)).inspect_err(|how| eprintln!("{how}")).is_ok())
}
