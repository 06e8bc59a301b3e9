//! `cargo xtask upgrade-test`: builds the release before from the history and the release after from this tree, and upgrades from each to
//! the next.
//!
//! The builds are kept beside ours, so the first takes minutes once. Without the history there is nothing to build, which is said.

use std::path::{Path, PathBuf};

use crate::program::{stdout_of, succeeds};
use crate::test::rust::run_cargo_test;
use crate::tree::{Change, VERSION_LINE, copy_tree, read, write};
use crate::workspace::Workspace;

/// The commit of the release 0.1.0.
const RELEASE: &str = "fb1f3c9a068cc7dcab49e4dc2a89ef15167c8043";
const USAGE: &str = "usage: cargo xtask upgrade-test";

/// Runs the upgrade tests with the programs of the release before and of the release after.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    if !arguments.is_empty() {
        return Err(USAGE.to_owned());
    }
    let known = workspace.command("git").args(["cat-file", "-e", RELEASE]).status();
    if !known.is_ok_and(|status| status.success()) {
        println!("skipped: the history with the release 0.1.0 (commit {RELEASE}) is not here");
        return Ok(true);
    }
    let (old, next) = (before(workspace)?, after(workspace)?);
    let mut command = workspace.cargo(&["test", "--package", "fctl", "--test", "upgrade", "--", "--nocapture"]);
    command.env("FLOWYARD_OLD_PROGRAM", old).env("FLOWYARD_NEXT_PROGRAM", &next);
    let mut tally = run_cargo_test(command)?;
    // The same under faults: hosts are upgraded while others are killed and cut off.
    let mut command = workspace.cargo(&["test", "--package", "fctl", "--test", "chaos", "--", "--nocapture"]);
    command.env("FLOWYARD_CHAOS_NEXT", &next).env("FLOWYARD_CHAOS_SEED", "1").env("FLOWYARD_CHAOS_SECONDS", "60");
    tally.add(run_cargo_test(command)?);
    println!("{tally}");
    Ok(tally.failed == 0 && tally.passed > 0)
}

/// The release after this one: this tree, which knows one more cluster version and has another number. No release has changed yet what
/// the next version does, so all that it does is to count.
const AFTER: [Change; 3] = [
    Change {
        file: "crates/model/src/ids.rs",
        find: "pub const NEWEST: Self = Self(2);",
        put: "pub const NEWEST: Self = Self(3);",
    },
    Change { file: "Cargo.toml", find: VERSION_LINE, put: "\nversion = \"0.2.0\"\n" },
    Change {
        file: "fctl/Cargo.toml",
        find: "\n[dependencies]\n",
        put: "\n[[bin]]\nname = \"fctl-after\"\npath = \"src/main.rs\"\n\n[dependencies]\n",
    },
];

/// The release before, under names of its own, so that it can be built beside ours: cargo tells packages of two trees in one folder apart
/// by their version alone, and takes ours for its own where it is newer.
const BEFORE: [Change; 2] = [
    Change { file: "Cargo.toml", find: "\nversion = \"0.1.0\"\n", put: "\nversion = \"0.1.0+before\"\n" },
    Change {
        file: "fctl/Cargo.toml",
        find: "\n[dependencies]\n",
        put: "\n[[bin]]\nname = \"fctl-before\"\npath = \"src/main.rs\"\n\n[dependencies]\n",
    },
];

fn after(workspace: &Workspace) -> Result<PathBuf, String> {
    let copy = workspace.metadata()?.target_directory.join("upgrade/after");
    copy_tree(workspace, &copy, &AFTER)?;
    built(workspace, &copy, "fctl-after")
}

fn before(workspace: &Workspace) -> Result<PathBuf, String> {
    let folder = workspace.metadata()?.target_directory.join("upgrade");
    let source = folder.join("before");
    if !source.is_dir() {
        std::fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let packed = stdout_of(workspace.command("git").args(["archive", "--format=tar", RELEASE]))?;
        let archive = folder.join("before.tar");
        std::fs::write(&archive, packed).map_err(|error| format!("{}: {error}", archive.display()))?;
        succeeds(workspace.command("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
        for change in BEFORE {
            let manifest = source.join(change.file);
            write(&manifest, &change.made(&read(&manifest)?)?)?;
        }
    }
    built(workspace, &source, "fctl-before")
}

/// Builds a program of another tree into our folder: most of what it depends on is there.
fn built(workspace: &Workspace, source: &Path, binary: &str) -> Result<PathBuf, String> {
    let target = workspace.metadata()?.target_directory;
    println!("building {binary} from {}", source.display());
    let mut command = workspace.cargo(&["build", "--package", "fctl", "--bin", binary]);
    succeeds(command.current_dir(source).env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("debug").join(binary))
}
