//! `cargo xtask storm`: ten thousand connections of strangers against one coordinator, which has to answer others meanwhile.
//!
//! Two thousand run in `cargo xtask test`; `FLOWYARD_STORM` is how the test learns of more, which takes twice as many descriptors.

use crate::test::rust::run_cargo_test;
use crate::workspace::Workspace;

/// Runs the storm of the coordinator's tests with this many.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let many = arguments.first().map_or("10000", String::as_str);
    if !many.parse::<u32>().is_ok_and(|many| many >= 100) {
        return Err(format!("the number of connections must be a whole number from 100 on, not `{many}`"));
    }
    let storm = ["test", "--package", "flowyard-coordinator", "--test", "fleet", "storm", "--", "--nocapture"];
    let mut command = workspace.cargo(&storm);
    command.env("FLOWYARD_STORM", many);
    let tally = run_cargo_test(command)?;
    println!("{tally}");
    Ok(tally.failed == 0 && tally.passed > 0)
}
