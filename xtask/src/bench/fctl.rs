//! The product under measurement: fctl in its release build, with a home of its own that is removed afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::figures::sample;
use crate::program::succeeds;
use crate::workspace::Workspace;

const STARTS: usize = 200;

/// A release build of fctl and an empty home for it.
pub(crate) struct Fctl {
    binary: PathBuf,
    home: PathBuf,
}

impl Fctl {
    /// Builds fctl and makes the home in the build folder.
    pub(crate) fn build(workspace: &Workspace) -> Result<Self, String> {
        succeeds(&mut workspace.cargo(&["build", "--quiet", "--locked", "--release", "--package", "fctl"]))?;
        let target = workspace.metadata()?.target_directory;
        let home = target.join(format!("bench-home-{}", std::process::id()));
        std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        Ok(Self { binary: target.join("release/fctl"), home })
    }

    /// A command line of fctl that sees only this home.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("FLOWYARD_HOME", &self.home).env_remove("FLOWYARD_ENDPOINT");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The program itself.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Where the embedded cluster keeps its state.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The answer of a command for programs; its last line, where there are more.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = self.command(&[&["-o", "json"], arguments].concat()).stdout(Stdio::piped()).output();
        let output = output.map_err(|error| format!("fctl: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.trim_end().lines().last().unwrap_or("");
        let said =
            || format!("fctl {}: {} {}", arguments.join(" "), text.trim(), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(said());
        }
        serde_json::from_str(last).map_err(|_| said())
    }
}

impl Drop for Fctl {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.home) {
            eprintln!("cannot remove {}: {error}", self.home.display());
        }
    }
}

/// `bench command-line`: the part of every command's time that is spent before it does anything.
pub(super) fn run(workspace: &Workspace) -> Result<(), String> {
    let fctl = Fctl::build(workspace)?;
    sample(1, STARTS, |_, _| succeeds(&mut fctl.command(&["--version"])))?.print("fctl --version");
    Ok(())
}
