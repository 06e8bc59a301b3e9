//! Gates that are a cargo command. Those that compile print their complaints while they work.

use std::process::{Command, Stdio};

use crate::program::{find_tool, succeeds};
use crate::tally::Verdict;
use crate::workspace::Workspace;

/// Every file is as rustfmt would write it.
pub(super) fn format(workspace: &Workspace) -> Verdict {
    Verdict::of_program(succeeds(&mut workspace.cargo(&["fmt", "--all", "--check"])))
}

/// No lint fires, in tests and examples neither.
pub(super) fn clippy(workspace: &Workspace) -> Verdict {
    let arguments = ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    Verdict::of_program(succeeds(&mut workspace.cargo(&arguments)))
}

/// The documents build, and their links lead somewhere.
pub(super) fn docs(workspace: &Workspace) -> Verdict {
    let mut command = workspace.cargo(&["doc", "--quiet", "--locked", "--workspace", "--no-deps"]);
    Verdict::of_program(succeeds(command.env("RUSTDOCFLAGS", "-D warnings")))
}

/// No crate names a dependency that it does not use.
pub(super) fn machete(workspace: &Workspace) -> Verdict {
    let Some(tool) = find_tool(workspace, "cargo-machete") else {
        return missing("cargo-machete");
    };
    quietly(workspace.command(&tool.to_string_lossy()).stdin(Stdio::null()))
}

/// Bans, licences and sources of deny.toml. Advisories need the network and are a job of their own.
pub(super) fn deny(workspace: &Workspace) -> Verdict {
    let Some(tool) = find_tool(workspace, "cargo-deny") else {
        return missing("cargo-deny");
    };
    let mut command = workspace.command(&tool.to_string_lossy());
    command.args(["--log-level", "error", "--locked", "check", "--hide-inclusion-graph"]);
    quietly(command.args(["bans", "licenses", "sources"]))
}

/// Shows what the tool prints only when it found something.
fn quietly(command: &mut Command) -> Verdict {
    match command.output() {
        Ok(output) if output.status.success() => Verdict::Passed,
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Verdict::Failed(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
        }
        Err(error) => Verdict::Failed(vec![format!("cannot run it: {error}")]),
    }
}

fn missing(tool: &str) -> Verdict {
    Verdict::Skipped(format!("{tool} is not installed"))
}
