//! `cargo xtask mutate`: the product made wrong on purpose, one small change of its source at a time, in a copy of the tree; the
//! simulator must notice each. It is a test of the simulator's checkers, and takes some minutes.
//!
//! What can be made wrong at a seam, without another build, is in `tests/sim/src/mutation.rs` and runs in the test suite.

use std::path::Path;

use crate::tree::{copy_tree, read, write};
use crate::workspace::Workspace;

/// Seeds within which a wrong product must be noticed.
const SEEDS: &str = "40";

/// A change that breaks a property.
struct Patch {
    name: &'static str,
    file: &'static str,
    find: &'static str,
    put: &'static str,
}

const PATCHES: &[Patch] = &[
    Patch {
        name: "what a lost attempt reports is taken",
        file: "crates/state/src/report.rs",
        find: "if node.incarnation != wish.incarnation {",
        put: "if false {",
    },
    Patch {
        name: "a placement of any attempt number is taken",
        file: "crates/state/src/plan.rs",
        find: "placement.attempt.0 as usize == attempts + 1",
        put: "placement.attempt.0 as usize > attempts.min(0)",
    },
    Patch {
        name: "a device is not given back",
        file: "crates/state/src/room.rs",
        find: "used.gpu_milli[index.0 as usize] -= share_milli;",
        put: "used.gpu_milli[index.0 as usize] -= share_milli * 0;",
    },
    Patch {
        name: "a node takes more than it has",
        file: "crates/state/src/room.rs",
        find: "if !room || !tokens {",
        put: "if !tokens {",
    },
    Patch {
        name: "a task is tried once more than its rule allows",
        file: "crates/state/src/retry.rs",
        find: "let again = spent <= rule.times && rule.on",
        put: "let again = spent <= rule.times + 1 && rule.on",
    },
    Patch {
        name: "an incarnation is used again",
        file: "crates/state/src/node.rs",
        find: "Incarnation(newest.0 + 1)",
        put: "Incarnation(newest.0)",
    },
    Patch {
        name: "an attempt that was asked to stop publishes",
        file: "crates/state/src/attempt.rs",
        find: "AttemptDesired::Stop if by_itself",
        put: "AttemptDesired::Stop if by_itself && end.outcome != AttemptOutcome::Succeeded",
    },
    Patch {
        name: "a gang goes on without a member",
        file: "crates/state/src/attempt.rs",
        find: "    if stop_others {",
        put: "    if stop_others && key.rank.0 > 7 {",
    },
    Patch {
        name: "the end of a member is not named as a change",
        file: "crates/state/src/attempt.rs",
        find: "    changed.nodes.insert(node);\n    changed.placement = true;",
        put: "    changed.placement = true;",
    },
    Patch {
        name: "an attempt whose device is gone ends before its program",
        file: "crates/state/src/node.rs",
        find: "        if state.version() < ClusterVersion::ACCESS {\n            end_member",
        put: "        if state.version() <= ClusterVersion::NEWEST {\n            end_member",
    },
    Patch {
        name: "a node is given to another agent under a lease",
        file: "crates/state/src/node.rs",
        find: "Health::Suspect => state.live_keys(id).any(leased),",
        put: "Health::Suspect => state.live_keys(id).any(leased) && id.0 == 0,",
    },
    Patch {
        name: "a closed node takes work",
        file: "crates/state/src/plan.rs",
        find: "node.health == Health::Up && node.scheduling == Scheduling::Open;",
        put: "node.health == Health::Up && node.scheduling <= Scheduling::Drained;",
    },
    Patch {
        name: "an agent is not told what is gone",
        file: "coordinator/src/session/desired.rs",
        find: "filter(|key| !now.contains_key(key)).copied().collect();",
        put: "filter(|key| !now.contains_key(key)).copied().take(0).collect();",
    },
    Patch {
        name: "a lease is renewed before the coordinator said what it wants",
        file: "agent/src/session.rs",
        find: "(self.received > 0).then_some(self.answered_ms)",
        put: "(self.received < u64::MAX).then_some(self.answered_ms)",
    },
    Patch {
        name: "a task runs on after its lease",
        file: "agent/src/launcher/ending.rs",
        find: "                return self.end(Reason::LeaseExpired, None, now);",
        put: "                *until = now + 1_000_000;",
    },
    Patch {
        name: "a task begins under a lease that is over",
        file: "agent/src/launcher/ending.rs",
        find: "Some(until) if until > now => Ok(until),",
        put: "Some(until) => Ok(until.max(now + 60_000)),",
    },
];

/// Makes every change alone, and runs the simulator; `false` when one was not noticed.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let chosen =
        |patch: &&Patch| arguments.is_empty() || arguments.iter().any(|word| patch.name.contains(word.as_str()));
    let target = workspace.metadata()?.target_directory;
    let copy = target.join("mutate");
    copy_tree(workspace, &copy, &[])?;
    let mut unnoticed = Vec::new();
    for patch in PATCHES.iter().filter(chosen) {
        let file = copy.join(patch.file);
        let text = read(&file)?;
        if text.matches(patch.find).count() != 1 {
            return Err(format!("{}: {} must hold exactly once: {}", patch.name, patch.file, patch.find));
        }
        write(&file, &text.replace(patch.find, patch.put))?;
        let noticed = is_noticed(workspace, &copy, &target)?;
        write(&file, &text)?;
        println!("{}: {}", patch.name, if noticed { "noticed" } else { "NOT NOTICED" });
        if !noticed {
            unnoticed.push(patch.name);
        }
    }
    Ok(unnoticed.is_empty())
}

/// Whether the simulator fails. A tree that does not build is an error of the patch.
fn is_noticed(workspace: &Workspace, copy: &Path, target: &Path) -> Result<bool, String> {
    let cargo = |arguments: &[&str]| {
        let mut command = workspace.cargo(arguments);
        command.current_dir(copy).env("CARGO_TARGET_DIR", target);
        command
    };
    let built = cargo(&["build", "--quiet", "--package", "flowyard-sim"]).status();
    if !built.map_err(|error| format!("cannot run cargo: {error}"))?.success() {
        return Err("the changed tree does not build".to_owned());
    }
    let mut sim = std::process::Command::new(target.join("debug").join("sim"));
    let output = sim.args(["--runs", SEEDS, "--first-failure", "yes"]).output();
    let output = output.map_err(|error| format!("cannot run the simulator: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.starts_with("FAILED")) {
        println!("  {line}");
    }
    Ok(!output.status.success())
}
