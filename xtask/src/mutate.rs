//! `cargo xtask mutate`: the product made wrong on purpose, one small change of its source at a time, in a copy of the tree; the
//! simulator must notice each. It is a test of the simulator's checkers, and takes some minutes.
//!
//! The copy is built once, with all changes in it; which of them is in force is said when it is run. What can be made wrong at a
//! seam, without another build, is in `tests/sim/src/mutation.rs` and runs in the test suite.

use std::collections::BTreeSet;
use std::path::Path;

use crate::tree::{Change, VERSION_LINE, copy_tree, read, write};
use crate::workspace::Workspace;

/// Seeds within which a wrong product must be noticed.
const SEEDS: &str = "40";
/// Stands in a patch for the condition that this patch is in force.
const WRONG: &str = "WRONG";
/// Names the patch that is in force, by its place in the list.
const IN_FORCE: &str = "FLOWYARD_MADE_WRONG";
/// Cargo tells packages of two trees in one folder apart by their version alone; otherwise it takes ours, where it is newer, for the wrong
/// one, or the other way round.
const VERSION: Change = Change { file: "Cargo.toml", find: VERSION_LINE, put: "\nversion = \"0.0.0+wrong\"\n" };
/// What is added to each file that is changed.
const SWITCH: &str = r#"
fn made_wrong(number: usize) -> bool {
    static IN_FORCE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let read = || std::env::var("FLOWYARD_MADE_WRONG").ok()?.parse().ok();
    *IN_FORCE.get_or_init(read) == Some(number)
}
"#;

/// A change that breaks a property.
struct Patch {
    name: &'static str,
    file: &'static str,
    find: &'static str,
    put: &'static str,
    /// The circumstances, by their name, in which it is looked for (`Circumstances::named`); none: usual ones.
    like: Option<&'static str>,
}

const PATCHES: &[Patch] = &[
    Patch {
        name: "what a lost attempt reports is taken",
        file: "crates/state/src/report.rs",
        find: "            take_one(state, changed, wish.node, report);\n        }\n",
        put: "            take_one(state, changed, wish.node, report);\n        } else if let Some(attempt) = state.task(report.member.task).and_then(|task| task.attempts.last())\n            && WRONG\n        {\n            let rank = report.member.rank;\n            let (member, node) = (attempt.member_key(report.member.task, rank), attempt.members[rank.0 as usize].node);\n            if state.indexes.live.contains(&(node, member)) {\n                take_one(state, changed, node, AttemptReport { member, ..report });\n            }\n        }\n",
        like: Some("SkipFence"),
    },
    Patch {
        name: "a placement of any attempt number is taken",
        file: "crates/state/src/plan.rs",
        find: "if ready && placement.attempt.0 as usize == attempts + 1 {",
        put: "if ready && (WRONG || placement.attempt.0 as usize == attempts + 1) {",
        like: Some("LatePlans"),
    },
    Patch {
        name: "a device is not given back",
        file: "crates/state/src/room.rs",
        find: "*held = held.saturating_sub(share_milli);",
        put: "*held = held.saturating_sub(if WRONG { 0 } else { share_milli });",
        like: None,
    },
    Patch {
        name: "a node takes more than it has",
        file: "crates/state/src/room.rs",
        find: "if !room || !tokens {",
        put: "if (!room && !WRONG) || !tokens {",
        like: None,
    },
    Patch {
        name: "a task is tried once more than its rule allows",
        file: "crates/state/src/retry.rs",
        find: "let again = spent <= rule.times && rule.on",
        put: "let again = spent <= rule.times + u32::from(WRONG) && rule.on",
        like: None,
    },
    Patch {
        name: "an incarnation is used again",
        file: "crates/state/src/node.rs",
        find: "Incarnation(newest.0.saturating_add(1))",
        put: "Incarnation(newest.0.saturating_add(u64::from(!WRONG)))",
        like: None,
    },
    Patch {
        name: "an attempt that was asked to stop publishes",
        file: "crates/state/src/attempt.rs",
        find: "AttemptDesired::Stop if by_itself =>",
        put: "AttemptDesired::Stop if by_itself && !(WRONG && end.outcome == AttemptOutcome::Succeeded) =>",
        like: None,
    },
    Patch {
        name: "a gang goes on without a member",
        file: "crates/state/src/attempt.rs",
        find: "    if stop_others {",
        put: "    if stop_others && !WRONG {",
        like: None,
    },
    Patch {
        name: "the end of a member is not named as a change",
        file: "crates/state/src/attempt.rs",
        find: "    changed.nodes.insert(node);\n    changed.placement = true;",
        put: "    if !WRONG {\n        changed.nodes.insert(node);\n    }\n    changed.placement = true;",
        like: None,
    },
    Patch {
        name: "an attempt whose device is gone ends before its program",
        file: "crates/state/src/node.rs",
        find: "if state.version() < ClusterVersion::ACCESS {\n            end_member",
        put: "if state.version() < ClusterVersion::ACCESS || WRONG {\n            end_member",
        like: Some("DevicesLost"),
    },
    Patch {
        name: "a node is given to another agent under a lease",
        file: "crates/state/src/node.rs",
        find: "Health::Suspect => state.live_keys(id).any(leased),",
        put: "Health::Suspect => state.live_keys(id).any(leased) && !WRONG,",
        like: Some("NamesTaken"),
    },
    Patch {
        name: "a closed node takes work",
        file: "crates/state/src/plan.rs",
        find: "node.health == Health::Up && node.scheduling == Scheduling::Open;",
        put: "node.health == Health::Up && (WRONG || node.scheduling == Scheduling::Open);",
        like: Some("NodesClosed"),
    },
    Patch {
        name: "an agent is not told what is gone",
        file: "coordinator/src/session/desired.rs",
        find: "filter(|key| !now.contains_key(key)).copied().collect();",
        put: "filter(|key| !now.contains_key(key) && !WRONG).copied().collect();",
        like: None,
    },
    Patch {
        name: "a lease is renewed before the coordinator said what it wants",
        file: "agent/src/session.rs",
        find: "(self.received > 0).then_some(self.answered_ms)",
        put: "(self.received > 0 || WRONG).then_some(self.answered_ms)",
        like: Some("LateNews"),
    },
    Patch {
        name: "a task runs on after its lease",
        file: "agent/src/launcher/ending.rs",
        find: "                return self.end(Reason::LeaseExpired, None, now);",
        put: "                if !WRONG {\n                    return self.end(Reason::LeaseExpired, None, now);\n                }\n                *until = now + 1_000_000;",
        like: Some("RenewWithoutSession"),
    },
    Patch {
        name: "a task begins under a lease that is over",
        file: "agent/src/launcher/ending.rs",
        find: "Some(until) if until > now => Ok(until),",
        put: "Some(until) if until > now => Ok(until),\n        Some(_) if WRONG => Ok(now + 60_000),",
        like: Some("BeginWithoutLease"),
    },
];

/// Makes the copy, builds it, and runs the simulator with each change in force; `false` when one was not noticed.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<bool, String> {
    let chosen =
        |patch: &Patch| arguments.is_empty() || arguments.iter().any(|word| patch.name.contains(word.as_str()));
    let target = workspace.metadata()?.target_directory;
    let copy = target.join("mutate");
    copy_tree(workspace, &copy, &[VERSION])?;
    put_patches(workspace, &copy)?;
    let built = workspace.cargo(&["build", "--quiet", "--package", "flowyard-sim"]);
    let built = in_copy(built, &copy, &target).status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.success() {
        return Err("the changed tree does not build".to_owned());
    }
    let chosen: Vec<_> = PATCHES.iter().enumerate().filter(|(_, patch)| chosen(patch)).collect();
    let circumstances: BTreeSet<_> = chosen.iter().map(|(_, patch)| patch.like).collect();
    if let Some(like) = circumstances.into_iter().find(|like| fails(&target, None, *like).unwrap_or(true)) {
        return Err(format!("the product fails as it is, in the circumstances {}", like.unwrap_or("that are usual")));
    }
    let (mut noticed, mut unnoticed) = (0, 0);
    for (number, patch) in chosen {
        let seen = fails(&target, Some(number), patch.like)?;
        println!("{}: {}", patch.name, if seen { "noticed" } else { "NOT NOTICED" });
        *(if seen { &mut noticed } else { &mut unnoticed }) += 1;
    }
    println!("{noticed} changes were noticed, {unnoticed} were not");
    Ok(unnoticed == 0)
}

/// Puts every change into the copy, each under its own condition.
fn put_patches(workspace: &Workspace, copy: &Path) -> Result<(), String> {
    let files: BTreeSet<_> = PATCHES.iter().map(|patch| patch.file).collect();
    for file in files {
        let original = read(&workspace.root.join(file))?;
        let mut text = original.clone();
        for (number, patch) in PATCHES.iter().enumerate().filter(|(_, patch)| patch.file == file) {
            if original.matches(patch.find).count() != 1 {
                return Err(format!("{}: {file} must hold exactly once: {}", patch.name, patch.find));
            }
            let put = patch.put.replace(WRONG, &format!("made_wrong({number})"));
            text = text.replace(patch.find, &put);
        }
        write(&copy.join(file), &(text + SWITCH))?;
    }
    Ok(())
}

fn in_copy(mut command: std::process::Command, copy: &Path, target: &Path) -> std::process::Command {
    command.current_dir(copy).env("CARGO_TARGET_DIR", target);
    command
}

/// Whether the simulator fails with this change in force, or with none, in these circumstances.
fn fails(target: &Path, number: Option<usize>, like: Option<&str>) -> Result<bool, String> {
    let mut sim = std::process::Command::new(target.join("debug").join("sim"));
    sim.args(["--runs", SEEDS, "--first-failure", "yes"]).env_remove(IN_FORCE);
    sim.envs(number.map(|number| (IN_FORCE, number.to_string())))
        .args(like.map_or(vec![], |like| vec!["--like", like]));
    let output = sim.output().map_err(|error| format!("cannot run the simulator: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.starts_with("FAILED")) {
        println!("  {line}");
    }
    Ok(!output.status.success())
}
