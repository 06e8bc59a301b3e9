//! `cargo xtask test`: everything that can run on this machine, counted.
//!
//! A test that cannot run here appends a line `skipped: NAME: reason` to the file that `FLOWYARD_SKIPS` names (crate
//! `flowyard-skip`) and returns; the runner then counts it as skipped instead of passed. The last line of the output is
//! exactly `N passed, N failed, N skipped`. On a continuous-integration machine, as root, a skip is a failure: there
//! everything can be had, but for the programs that `skips.rs` names.

mod machine;
mod python;
pub(crate) mod rust;
pub(crate) mod skips;

use crate::check;
use crate::program::{is_ci, is_root};
use crate::tally::Tally;
use crate::workspace::Workspace;
use skips::Skips;

/// What the arguments ask to leave out.
struct Options {
    install: bool,
    check: bool,
}

/// Runs the gate and every suite; `true` when nothing failed and nothing was skipped that must not be.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let options = options(arguments)?;
    if options.install {
        machine::prepare(workspace);
    }
    let skips = Skips::create(&workspace.metadata()?.target_directory)?;
    let (mut tally, mut reasons) = (Tally::default(), Vec::new());
    if options.check {
        let (gates, skipped) = check::run_gates(workspace);
        tally.add(gates);
        reasons.extend(skipped);
    }
    tally.add(rust::run(workspace, &skips)?);
    tally.add(python::run(workspace, &skips)?);
    reasons.extend(skips.count(&mut tally)?);
    Ok(close(tally, &reasons))
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { install: true, check: true };
    for argument in arguments {
        match argument.as_str() {
            "--no-install" => options.install = false,
            "--no-check" => options.check = false,
            other => return Err(format!("unknown argument `{other}`; there are --no-install and --no-check")),
        }
    }
    Ok(options)
}

/// Prints why things were skipped, and the closing line.
fn close(tally: Tally, reasons: &[String]) -> bool {
    println!();
    reasons.iter().for_each(|reason| println!("{reason}"));
    let all_must_run = is_ci() && is_root();
    let allowed = reasons.iter().filter(|reason| skips::is_allowed(reason)).count() as u64;
    if allowed > 0 {
        println!(
            "{allowed} skipped for want of a program that no registry of packages offers here: NOT TESTED, and no failure"
        );
    }
    let skip_fails = all_must_run && tally.skipped > allowed;
    if skip_fails {
        println!("on this machine (CI, root) everything else can run, so a skip is a failure");
    }
    println!("{tally}");
    tally.failed == 0 && !skip_fails
}
