//! Every dependency is accounted for: one line in docs/decisions/dependencies.md says what it replaces and who keeps it.
//!
//! The root manifest is the only place that names a version, so that nothing slips past the ledger in a crate's own.

use std::collections::BTreeSet;
use std::path::Path;

use crate::workspace::Workspace;

const LEDGER: &str = "docs/decisions/dependencies.md";

/// Dependencies without a line, and lines whose dependency is gone.
pub(super) fn problems(workspace: &Workspace) -> Result<Vec<String>, String> {
    let used = declared(&workspace.read(Path::new("Cargo.toml"))?)?;
    let listed = lines_of(&workspace.read(Path::new(LEDGER))?);
    let missing = used.difference(&listed).map(|name| format!("{LEDGER}: no line for {name}"));
    let stale = listed.difference(&used).map(|name| format!("{LEDGER}: {name} is no dependency of the workspace"));
    let mut problems: Vec<String> = missing.chain(stale).collect();
    for member in workspace.metadata()?.members() {
        let manifest = member.manifest_path.strip_prefix(&workspace.root).unwrap_or(&member.manifest_path);
        for name in not_shared(&workspace.read(manifest)?)? {
            problems.push(format!("{}: {name} must be `workspace = true`", manifest.display()));
        }
    }
    Ok(problems)
}

/// The dependencies of a member's manifest that do not come from the root manifest.
fn not_shared(manifest: &str) -> Result<Vec<String>, String> {
    let manifest: toml::Table = manifest.parse().map_err(|error| format!("a member's manifest: {error}"))?;
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"].map(|name| manifest.get(name));
    let entries = tables.into_iter().flatten().filter_map(toml::Value::as_table).flatten();
    let shared = |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    Ok(entries.filter(|(_, value)| !shared(value)).map(|(name, _)| name.clone()).collect())
}

/// The dependencies of the root manifest that are not our own crates.
fn declared(manifest: &str) -> Result<BTreeSet<String>, String> {
    let manifest: toml::Table = manifest.parse().map_err(|error| format!("Cargo.toml: {error}"))?;
    let dependencies = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let dependencies = dependencies.and_then(toml::Value::as_table).ok_or("Cargo.toml: no [workspace.dependencies]")?;
    let foreign = dependencies.iter().filter(|(_, value)| value.get("path").is_none());
    Ok(foreign.map(|(name, _)| name.clone()).collect())
}

/// The first cell of each table row that holds one name in backquotes.
fn lines_of(ledger: &str) -> BTreeSet<String> {
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    ledger.lines().filter_map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_crates_need_no_line_and_others_do() {
        let manifest = "[workspace.dependencies]\nours = { path = \"a\" }\ntheirs = \"1\"\n";
        assert_eq!(declared(manifest).unwrap(), BTreeSet::from(["theirs".to_owned()]));
    }

    #[test]
    fn a_member_names_no_version_of_its_own() {
        let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = { version = \"1\" }\n";
        assert_eq!(not_shared(manifest).unwrap(), ["b", "c"]);
    }

    #[test]
    fn a_row_of_the_ledger_names_its_dependency_first() {
        let ledger = "| Dependency | x |\n|---|---|\n| `bytes` | shared buffers `Vec` | tokio |\n";
        assert_eq!(lines_of(ledger), BTreeSet::from(["bytes".to_owned()]));
    }
}
