//! Libraries that are named in one place only, so that they can be replaced there.
//!
//! The search is over tokens: comments and strings may speak of anything.

use std::path::Path;
use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

use crate::tally::problem;
use crate::workspace::Workspace;

/// A library, by the name code calls it, and the only places that may name it.
struct Fence {
    library: &'static str,
    inside: &'static [&'static str],
}

const RAFT: &[&str] = &["coordinator/src/raft", "coordinator/tests"];
const CONTAINERS: &[&str] = &["agent/src/runtime", "agent/src/image", "agent/tests"];

const FENCES: &[Fence] = &[
    Fence { library: "openraft", inside: RAFT },
    Fence { library: "sled", inside: RAFT },
    Fence { library: "redb", inside: RAFT },
    Fence { library: "libcontainer", inside: CONTAINERS },
    Fence { library: "libcgroups", inside: CONTAINERS },
    Fence { library: "oci_spec", inside: CONTAINERS },
];

/// Crates of tests may name anything.
const TEST_CRATES: &str = "tests/";

/// A pure crate's product code may not lift the bans of its `clippy.toml`.
const PURE_SOURCES: &[&str] =
    &["crates/model/src", "crates/state/src", "crates/placement/src", "crates/scheduling/src", "crates/history/src"];
const LIFTED_BANS: &[&str] = &["disallowed_methods", "disallowed_types"];
/// Nor does it name, by whichever alias, a map whose order differs between processes.
const UNORDERED: &[&str] = &["HashMap", "HashSet"];

/// Every place where a library is named outside its fence.
pub(super) fn problems(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for file in workspace.files()? {
        if file.extension().is_none_or(|extension| extension != "rs") || file.starts_with(TEST_CRATES) {
            continue;
        }
        let text = workspace.read(&file)?;
        let tokens = TokenStream::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        walk(tokens, &mut |name, line| problems.extend(judge(&file, name, line)));
    }
    Ok(problems)
}

fn judge(file: &Path, name: &str, line: usize) -> Option<String> {
    let pure = PURE_SOURCES.iter().any(|source| file.starts_with(source));
    if pure && LIFTED_BANS.contains(&name) {
        return Some(problem(file, line, format_args!("the pure core does not lift {name}")));
    }
    if pure && UNORDERED.contains(&name) {
        return Some(problem(file, line, format_args!("{name} has no order: use an ordered map")));
    }
    let fence = FENCES.iter().find(|fence| fence.library == name)?;
    let inside = fence.inside.iter().any(|place| lies_in(file, place));
    (!inside).then(|| problem(file, line, format_args!("{name} is named only in {}", fence.inside.join(", "))))
}

/// A place is a folder or the module file of the same name.
fn lies_in(file: &Path, place: &str) -> bool {
    file.starts_with(place) || file.with_extension("") == Path::new(place)
}

fn walk(tokens: TokenStream, see: &mut impl FnMut(&str, usize)) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) => see(&name.to_string(), name.span().start().line),
            TokenTree::Group(group) => walk(group.stream(), see),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_refused_outside_its_fence_and_allowed_inside() {
        let refused = |file: &str| judge(Path::new(file), "openraft", 3).is_some();
        assert!(refused("coordinator/src/api.rs"));
        assert!(refused("coordinator/src/raftish.rs"));
        assert!(!refused("coordinator/src/raft.rs"));
        assert!(!refused("coordinator/src/raft/log.rs"));
    }

    #[test]
    fn comments_and_strings_may_name_a_library() {
        let mut seen = Vec::new();
        let code = "/// sled\nfn f() { let text = \"sled\"; redb::open(text) } // sled";
        walk(TokenStream::from_str(code).unwrap(), &mut |name, line| seen.push((name.to_owned(), line)));
        assert!(seen.contains(&("redb".to_owned(), 2)));
        assert!(!seen.iter().any(|(name, _)| name == "sled"));
    }

    #[test]
    fn the_pure_core_cannot_lift_its_bans_nor_lose_its_order() {
        assert!(judge(Path::new("crates/model/src/lib.rs"), "HashMap", 1).is_some());
        assert!(judge(Path::new("agent/src/lib.rs"), "HashMap", 1).is_none());
        assert!(judge(Path::new("crates/state/src/lib.rs"), "disallowed_types", 1).is_some());
        assert!(judge(Path::new("crates/state/tests/scripts.rs"), "disallowed_types", 1).is_none());
    }
}
