//! `cargo xtask upgrade-test`: builds the release before from the history, and lets this program take over what it left.
//!
//! The build is kept beside ours, so it takes minutes once. Without the history there is nothing to build, which is said.

use std::path::PathBuf;

use crate::program::{stdout_of, succeeds};
use crate::test::rust::run_cargo_test;
use crate::workspace::Workspace;

/// The commit of the release 0.1.0.
const RELEASE: &str = "fb1f3c9a068cc7dcab49e4dc2a89ef15167c8043";
const USAGE: &str = "usage: cargo xtask upgrade-test";

/// Runs the upgrade test with the program of the release before.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    if !arguments.is_empty() {
        return Err(USAGE.to_owned());
    }
    let known = workspace.command("git").args(["cat-file", "-e", RELEASE]).status();
    if !known.is_ok_and(|status| status.success()) {
        println!("skipped: the history with the release 0.1.0 (commit {RELEASE}) is not here");
        return Ok(true);
    }
    let program = build(workspace)?;
    let mut command = workspace.cargo(&["test", "--package", "fctl", "--test", "upgrade", "--", "--nocapture"]);
    command.env("FLOWYARD_OLD_PROGRAM", program);
    let tally = run_cargo_test(command)?;
    println!("{tally}");
    Ok(tally.failed == 0 && tally.passed > 0)
}

/// The program of the release, built unless it was before.
fn build(workspace: &Workspace) -> Result<PathBuf, String> {
    let folder = workspace.metadata()?.target_directory.join("upgrade");
    let (source, target) = (folder.join("source"), folder.join("target"));
    let program = folder.join("fctl-0.1.0");
    if program.is_file() {
        return Ok(program);
    }
    if !source.is_dir() {
        std::fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let packed = stdout_of(workspace.command("git").args(["archive", "--format=tar", RELEASE]))?;
        let archive = folder.join("source.tar");
        std::fs::write(&archive, packed).map_err(|error| format!("{}: {error}", archive.display()))?;
        succeeds(workspace.command("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
    }
    println!("building the release 0.1.0 into {}", folder.display());
    let mut command = workspace.cargo(&["build", "--locked", "--package", "fctl"]);
    succeeds(command.current_dir(&source).env("CARGO_TARGET_DIR", &target))?;
    let built = target.join("debug/fctl");
    std::fs::copy(&built, &program).map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(program)
}
