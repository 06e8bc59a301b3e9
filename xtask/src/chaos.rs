//! `cargo xtask chaos`: the chaos suite, for as long as a release asks for.
//!
//! The suite itself runs in `cargo xtask test` too, with a short plan; its environment is how it learns of another. A long run is made with
//! the optimised program: eight processes of the other keep a core busy, and then it is the machine that is tested.

use crate::test::rust::run_cargo_test;
use crate::test::skips::Skips;
use crate::workspace::Workspace;

const USAGE: &str = "usage: cargo xtask chaos [--minutes N] [--seed N]";
/// Minutes from which on it pays to build the optimised program.
const LONG: u64 = 5;

/// Runs the plan of the seed for the minutes given; one minute of seed 1 if nothing is.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let (mut minutes, mut seed) = (1, 1);
    let mut left = arguments.iter();
    while let Some(flag) = left.next() {
        let value = left.next().and_then(|text| text.parse::<u64>().ok()).ok_or(USAGE)?;
        match flag.as_str() {
            "--minutes" => minutes = value,
            "--seed" => seed = value,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let skips = Skips::create(&workspace.metadata()?.target_directory)?;
    let mut command = workspace.cargo(&["test", "--package", "fctl", "--test", "chaos"]);
    command.args((minutes >= LONG).then_some("--release")).args(["--", "--nocapture"]);
    command.env("FLOWYARD_CHAOS_SEED", seed.to_string());
    command.env("FLOWYARD_CHAOS_SECONDS", (minutes * 60).to_string());
    skips.tell(&mut command);
    let mut tally = run_cargo_test(command)?;
    let reasons = skips.count(&mut tally)?;
    reasons.iter().for_each(|reason| println!("{reason}"));
    println!("{tally}");
    Ok(tally.failed == 0 && tally.passed + tally.skipped > 0)
}
