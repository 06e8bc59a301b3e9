//! `cargo xtask chaos`: the chaos test, for as long as a release asks for.
//!
//! The test itself runs in `cargo xtask test` too, for some seconds; its environment is how it learns the rest.

use crate::test::rust::run_cargo_test;
use crate::workspace::Workspace;

const USAGE: &str = "usage: cargo xtask chaos [--minutes N] [--seed N]";

/// Runs the chaos test with the seed and for the minutes given; one minute of seed 1 if nothing is.
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
    let mut command = workspace.cargo(&["test", "--package", "fctl", "--test", "chaos", "--", "--nocapture"]);
    command.env("FLOWYARD_CHAOS_SEED", seed.to_string());
    command.env("FLOWYARD_CHAOS_SECONDS", (minutes * 60).to_string());
    let tally = run_cargo_test(command)?;
    println!("{tally}");
    Ok(tally.failed == 0 && tally.passed > 0)
}
