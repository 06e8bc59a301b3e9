//! `cargo xtask sim`: hands its arguments to the simulator, built with optimisation because seeds are many; with `--raft`, to the
//! simulation of the replicas.

use crate::program::succeeds;
use crate::test::rust::run_cargo_test;
use crate::workspace::Workspace;

const USAGE: &str = "usage: cargo xtask sim [--raft] [--seed N] [--runs K]";
/// Runs of the replicas from which on it pays to build them optimised. The library then leaves out the checks of its own state, which take
/// most of the time; what is looked at in the end is the same.
const MANY: u64 = 100;

/// Runs the simulator; it ends with an error when a history breaks a property.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    if let Some((first, rest)) = arguments.split_first().filter(|(first, _)| *first == "--raft") {
        debug_assert_eq!(first, "--raft");
        return replicas(workspace, rest);
    }
    let mut command =
        workspace.cargo(&["run", "--quiet", "--release", "--package", "flowyard-sim", "--bin", "sim", "--"]);
    Ok(succeeds(command.args(arguments)).inspect_err(|how| eprintln!("{how}")).is_ok())
}

/// The replicas' own simulation is a test; its environment is how it learns which histories to run.
fn replicas(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let (mut seed, mut runs) = (1, 1);
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { return Err(USAGE.to_owned()) };
        let value = value.parse::<u64>().map_err(|_| USAGE)?;
        match flag.as_str() {
            "--seed" => seed = value,
            "--runs" => runs = value,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let mut command = workspace.cargo(&["test", "--package", "flowyard-coordinator", "--test", "simulated"]);
    command.args((runs >= MANY).then_some("--release")).args(["--", "--nocapture"]);
    command.env("FLOWYARD_SIM_FIRST", seed.to_string());
    command.env("FLOWYARD_SIM_SEEDS", runs.to_string());
    let tally = run_cargo_test(command)?;
    println!("{tally}");
    Ok(tally.failed == 0 && tally.passed > 0)
}
