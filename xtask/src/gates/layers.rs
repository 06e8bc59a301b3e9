//! Who may depend on whom among the workspace's own crates (ARCHITECTURE.md, section 3).
//!
//! An allow-list, so that a new edge between crates is a decision somebody takes here, in sight.

use std::collections::BTreeMap;

use crate::workspace::{Metadata, Workspace};

/// A crate and the workspace crates that its product code may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("flowyard-clock", &[]),
    ("flowyard-model", &[]),
    ("flowyard-state", &["flowyard-model"]),
    ("flowyard-placement", &[]),
    ("flowyard-scheduling", &["flowyard-model", "flowyard-placement", "flowyard-state"]),
    ("flowyard-history", &["flowyard-model", "flowyard-placement", "flowyard-scheduling", "flowyard-state"]),
    ("flowyard-cas", &["flowyard-clock", "flowyard-model"]),
    ("flowyard-logs", &[]),
    ("flowyard-identity", &["flowyard-clock", "flowyard-model"]),
    ("flowyard-telemetry", &["flowyard-clock"]),
    ("flowyard-proto", &["flowyard-model"]),
    (
        "flowyard-coordinator",
        &[
            "flowyard-cas",
            "flowyard-clock",
            "flowyard-identity",
            "flowyard-logs",
            "flowyard-model",
            "flowyard-placement",
            "flowyard-proto",
            "flowyard-scheduling",
            "flowyard-state",
            "flowyard-telemetry",
        ],
    ),
    (
        "flowyard-agent",
        &[
            "flowyard-cas",
            "flowyard-clock",
            "flowyard-identity",
            "flowyard-logs",
            "flowyard-model",
            "flowyard-proto",
            "flowyard-telemetry",
        ],
    ),
    ("flowyard-hollow", &["flowyard-agent", "flowyard-clock", "flowyard-identity", "flowyard-model", "flowyard-proto"]),
    ("flowyard-sdk", &["flowyard-cas", "flowyard-clock", "flowyard-identity", "flowyard-model", "flowyard-proto"]),
    (
        "fctl",
        &[
            "flowyard-agent",
            "flowyard-cas",
            "flowyard-clock",
            "flowyard-coordinator",
            "flowyard-history",
            "flowyard-hollow",
            "flowyard-identity",
            "flowyard-model",
            "flowyard-proto",
            "flowyard-sdk",
            "flowyard-telemetry",
        ],
    ),
    ("xtask", &["flowyard-clock"]),
];

/// What any crate's own tests may use besides.
const TESTS_MAY_USE: &[&str] = &["flowyard-chaos", "flowyard-conformance", "flowyard-skip"];

/// Crates that only test others may depend on anything.
const TEST_CRATES: &str = "tests/";

/// The edges that no line above allows.
pub(super) fn problems(workspace: &Workspace) -> Result<Vec<String>, String> {
    let metadata = workspace.metadata()?;
    let names: BTreeMap<&str, &str> = metadata.members().map(|member| (&*member.id, &*member.name)).collect();
    let mut problems = Vec::new();
    for member in metadata.members() {
        let manifest = member.manifest_path.strip_prefix(&workspace.root).unwrap_or(&member.manifest_path);
        if manifest.starts_with(TEST_CRATES) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == member.name) else {
            problems.push(format!("{}: {} has no line in xtask/src/gates/layers.rs", manifest.display(), member.name));
            continue;
        };
        let refused = refused_edges(&metadata, &member.id, allowed, &names);
        problems.extend(refused.iter().map(|used| {
            format!("{}: {} may not depend on {used} (ARCHITECTURE.md, section 3)", manifest.display(), member.name)
        }));
    }
    Ok(problems)
}

fn refused_edges<'a>(
    metadata: &Metadata,
    member: &str,
    allowed: &[&str],
    names: &BTreeMap<&str, &'a str>,
) -> Vec<&'a str> {
    let ours = |ids: Vec<&str>| ids.into_iter().filter_map(|id| names.get(id).copied()).collect::<Vec<&'a str>>();
    let product = ours(metadata.dependencies(member, &[None, Some("build")]));
    let tests = ours(metadata.dependencies(member, &[Some("dev")]));
    let refused_product = product.into_iter().filter(|name| !allowed.contains(name));
    let refused_tests = tests.into_iter().filter(|name| !allowed.contains(name) && !TESTS_MAY_USE.contains(name));
    refused_product.chain(refused_tests).collect()
}
