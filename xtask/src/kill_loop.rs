//! `cargo xtask kill-loop`: the coordinator's kill -9 test, with as many rounds as a release asks for.
//!
//! The test itself runs in `cargo xtask test` too, with few rounds; `FLOWYARD_KILL_ROUNDS` is how it learns the number.

use crate::program::succeeds;
use crate::workspace::Workspace;

const ROUNDS: &str = "200";

/// Runs the coordinator's tests whose name holds `kill`, for the rounds given or for [`ROUNDS`].
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let rounds = arguments.first().map_or(ROUNDS, String::as_str);
    if rounds.parse::<u32>().is_err() {
        return Err(format!("the number of rounds must be a whole number, not `{rounds}`"));
    }
    let mut command = workspace.cargo(&["test", "--package", "flowyard-coordinator", "kill", "--", "--nocapture"]);
    command.env("FLOWYARD_KILL_ROUNDS", rounds);
    Ok(succeeds(&mut command).inspect_err(|how| eprintln!("{how}")).is_ok())
}
