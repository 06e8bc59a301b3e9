//! `cargo xtask kill-loop`: the coordinator's kill -9 test, with as many rounds as a release asks for.
//!
//! The test itself runs in `cargo xtask test` too, with few rounds; `FLOWYARD_KILL_ROUNDS` is how it learns the number.

use crate::test::rust::run_cargo_test;
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
    let tally = run_cargo_test(command)?;
    println!("{tally}");
    // A filter that matches no test would otherwise look like two hundred rounds survived.
    Ok(tally.failed == 0 && tally.passed > 0)
}
