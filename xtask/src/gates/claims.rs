//! The claims of `docs/security.md` and their tests.
//!
//! A claim is an item of a list; the comment after it, `<!-- test: coordinator::fleet::closed::name -->`, names the test that proves it: the
//! crate, the modules, the function. Items of the sections named in [`STATED`] are not claims: they say what is believed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::workspace::Workspace;

const PAGE: &str = "docs/security.md";
/// Sections that say what is trusted and what does not hold.
const STATED: [&str; 2] = ["What is trusted", "What does not hold"];

/// A claim: its line, its text, and the tests it names.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    line: usize,
    text: String,
    tests: Vec<String>,
}

/// Every claim without a test, and every test that is named and does not exist.
pub(super) fn problems(workspace: &Workspace) -> Result<Vec<String>, String> {
    let page = workspace.read(Path::new(PAGE))?;
    let crates = crates(workspace)?;
    let mut problems = Vec::new();
    for claim in claims(&page) {
        let Claim { line, text, tests } = claim;
        if tests.is_empty() {
            problems.push(format!("{PAGE}:{line}: no test is named for: {text}"));
        }
        if sentences(&text) > tests.len().max(1) {
            problems.push(format!("{PAGE}:{line}: each sentence that claims something has a test of its own: {text}"));
        }
        for test in tests {
            if !exists(workspace, &crates, &test)? {
                problems.push(format!("{PAGE}:{line}: there is no test {test}"));
            }
        }
    }
    Ok(problems)
}

fn claims(page: &str) -> Vec<Claim> {
    let (mut claims, mut stated): (Vec<Claim>, bool) = (Vec::new(), false);
    for (at, line) in page.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            stated = STATED.contains(&title);
        } else if let Some(item) = line.strip_prefix("- ").filter(|_| !stated) {
            claims.push(Claim { line: at + 1, text: String::new(), tests: Vec::new() });
            add(claims.last_mut(), item);
        } else if let Some(rest) = line.strip_prefix("  ").filter(|_| !stated) {
            add(claims.last_mut(), rest);
        }
    }
    claims
}

/// Adds a line of the page to its claim.
fn add(claim: Option<&mut Claim>, line: &str) {
    let Some(claim) = claim else { return };
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("<!--") {
        let (comment, after) = after.split_once("-->").unwrap_or((after, ""));
        claim.text = format!("{} {}", claim.text, before.trim()).trim().to_owned();
        claim.tests.extend(comment.trim().strip_prefix("test:").map(|test| test.trim().to_owned()));
        rest = after;
    }
    claim.text = format!("{} {}", claim.text, rest.trim()).trim().to_owned();
}

fn sentences(text: &str) -> usize {
    text.split(". ").filter(|sentence| !sentence.trim().is_empty()).count()
}

/// The folders of our crates, by name without `flowyard-`.
fn crates(workspace: &Workspace) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut crates = BTreeMap::new();
    for file in workspace.files()?.into_iter().filter(|file| file.file_name().is_some_and(|name| name == "Cargo.toml"))
    {
        let text = workspace.read(&file)?;
        let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        if let (Some(name), Some(folder)) = (name, file.parent()) {
            crates.insert(name.trim_start_matches("flowyard-").replace('-', "_"), folder.to_owned());
        }
    }
    Ok(crates)
}

/// Whether a crate has a test function of this path.
fn exists(workspace: &Workspace, crates: &BTreeMap<String, PathBuf>, test: &str) -> Result<bool, String> {
    let parts: Vec<&str> = test.split("::").collect();
    let [krate, modules @ .., name] = parts.as_slice() else { return Ok(false) };
    let Some(folder) = crates.get(*krate) else { return Ok(false) };
    for file in workspace.files()?.into_iter().filter(|file| file.starts_with(folder)) {
        if file.extension().is_some_and(|extension| extension == "rs") && lies_below(&file, modules) {
            let text = workspace.read(&file)?;
            if has_test(&text, name) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether the path of a file has these modules in it, in their order.
fn lies_below(file: &Path, modules: &[&str]) -> bool {
    let path = file.with_extension("");
    let mut parts = path.iter().filter_map(|part| part.to_str());
    modules.iter().all(|module| parts.any(|part| part == *module))
}

fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let head = format!("fn {name}(");
    let marked = |at: usize| {
        let above = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        above.into_iter().any(|line| line.contains("test"))
    };
    lines.iter().enumerate().any(|(at, line)| line.contains(&head) && marked(at)) || in_proptest(text, &head)
}

/// Property tests have their mark inside a macro.
fn in_proptest(text: &str, head: &str) -> bool {
    text.contains("proptest!") && text.contains(&format!("#[test]\n    {head}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Security

Words.

## Who may

- It is so. <!-- test: a::b::c -->
- It is long
  and goes on. <!-- test: a::d -->
- Nothing proves it.

## What is trusted

- The sun.
";

    #[test]
    fn claims_are_items_with_their_tests_and_what_is_trusted_is_none() {
        let found = claims(TEXT);
        let told: Vec<_> = found.iter().map(|claim| (claim.line, claim.text.as_str(), claim.tests.len())).collect();
        assert_eq!(told, [(7, "It is so.", 1), (8, "It is long and goes on.", 1), (10, "Nothing proves it.", 0)]);
        assert_eq!(sentences("One thing. Another thing."), 2);
        assert_eq!(sentences("One thing."), 1);
    }

    #[test]
    fn a_test_is_a_function_that_is_marked_as_one() {
        assert!(has_test("#[test]\nfn it_is_so() {", "it_is_so"));
        assert!(has_test("    #[tokio::test(flavor = \"multi_thread\")]\n    async fn it_is_so() {", "it_is_so"));
        assert!(!has_test("fn it_is_so() {", "it_is_so"));
        assert!(lies_below(Path::new("coordinator/tests/fleet/closed.rs"), &["fleet", "closed"]));
        assert!(lies_below(Path::new("coordinator/tests/fleet/main.rs"), &["fleet"]));
        assert!(!lies_below(Path::new("coordinator/src/access.rs"), &["fleet"]));
    }
}
