//! The pure core stays pure: `model`, `state` and `placement` reach no async runtime, network, file, clock, thread or
//! random library, directly or through others.
//!
//! What their own code may call is held by their `clippy.toml`; this gate holds what they may link.

use std::collections::BTreeSet;

use crate::workspace::{Metadata, Workspace};

const PURE: &[&str] =
    &["flowyard-model", "flowyard-state", "flowyard-placement", "flowyard-scheduling", "flowyard-history"];

/// What the pure crates may name in their manifests.
const DIRECT: &[&str] =
    &["flowyard-model", "flowyard-placement", "flowyard-scheduling", "flowyard-state", "imbl", "serde", "thiserror"];

/// What those bring along. Each was read for what it does; macros run only in the compiler.
const TRANSITIVE: &[&str] = &[
    // serde and thiserror: the traits, and macros with what parses them.
    "proc-macro2",
    "quote",
    "serde_core",
    "serde_derive",
    "syn",
    "thiserror-impl",
    "unicode-ident",
    // imbl: its arrays and pointers, and a generator seeded by constants from which its tests and treaps draw.
    "archery",
    "bytemuck",
    "equivalent",
    "imbl-sized-chunks",
    "rand_core",
    "rand_xoshiro",
    "safe_arch",
    "wide",
];

/// What the pure crates reach and may not.
pub(super) fn problems(workspace: &Workspace) -> Result<Vec<String>, String> {
    let metadata = workspace.metadata()?;
    let mut problems = Vec::new();
    for member in metadata.members().filter(|member| PURE.contains(&member.name.as_str())) {
        let direct = metadata.dependencies(&member.id, &[None, Some("build")]);
        for name in direct.iter().map(|id| metadata.package(id).name.as_str()) {
            if !DIRECT.contains(&name) {
                problems.push(format!("{} may not depend on {name}: the pure core links no IO", member.name));
            }
        }
        for name in reached(&metadata, &direct) {
            if !DIRECT.contains(&name) && !TRANSITIVE.contains(&name) {
                problems.push(format!("{} reaches {name}, which xtask/src/gates/purity.rs does not list", member.name));
            }
        }
    }
    Ok(problems)
}

/// The names of everything reached by normal dependencies from `roots`, without the roots.
fn reached<'a>(metadata: &'a Metadata, roots: &[&'a str]) -> BTreeSet<&'a str> {
    let mut seen: BTreeSet<&str> = roots.iter().copied().collect();
    let mut ahead = roots.to_vec();
    while let Some(id) = ahead.pop() {
        for next in metadata.dependencies(id, &[None]) {
            if seen.insert(next) {
                ahead.push(next);
            }
        }
    }
    seen.into_iter().filter(|id| !roots.contains(id)).map(|id| metadata.package(id).name.as_str()).collect()
}
