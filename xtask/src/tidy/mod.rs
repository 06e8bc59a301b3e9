//! `cargo xtask tidy`: the sizes, words and names of the code guide, as a test.
//!
//! Owns the limits. Exceptions live in `xtask/tidy-ratchet.toml`, each with a reason, and may only shrink: an exception
//! that is larger than what it excuses, or excuses nothing, is itself a problem.

mod names;
mod ratchet;
mod rules;
mod source;
mod words;

use std::path::Path;

use crate::tally::problem;
use crate::workspace::Workspace;
use ratchet::Ratchet;

/// Lines of one function, from its signature to its closing brace.
const FUNCTION_LINES: u64 = 70;
/// Lines of one file, its inline test modules left out.
const FILE_LINES: u64 = 800;
/// Bytes of one tracked file.
const FILE_BYTES: u64 = 1 << 20;

/// One broken rule: which, where, and how far.
pub(crate) struct Finding {
    /// The rule as the ratchet file names it.
    rule: &'static str,
    /// The file, and for code the item in it; what the ratchet file calls `at`.
    at: String,
    line: usize,
    size: u64,
    limit: u64,
    what: String,
}

/// Runs this gate alone.
pub(crate) fn run(workspace: &Workspace) -> Result<bool, String> {
    let problems = problems(workspace)?;
    problems.iter().for_each(|problem| println!("{problem}"));
    println!("{} problems", problems.len());
    Ok(problems.is_empty())
}

/// Everything in the repository that breaks a rule and is not excused.
pub(crate) fn problems(workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut ratchet = Ratchet::load(workspace)?;
    let mut problems = Vec::new();
    for file in workspace.files()? {
        for finding in findings_in(workspace, &file)? {
            if !ratchet.excuses(&finding) {
                problems.push(problem(&file, finding.line, &finding.what));
            }
        }
    }
    problems.extend(ratchet.leftovers());
    Ok(problems)
}

fn findings_in(workspace: &Workspace, file: &Path) -> Result<Vec<Finding>, String> {
    let bytes = std::fs::read(workspace.root.join(file)).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut findings = Vec::from_iter(rules::bytes(file, bytes.len() as u64));
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(findings);
    };
    findings.extend(words::banned(file, &text));
    if file.extension().is_some_and(|extension| extension == "rs") {
        let parsed = source::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        findings.extend(rules::sizes(file, &text, &parsed));
        findings.extend(rules::ignored(file, &parsed));
        findings.extend(names::forbidden(file, &parsed));
    }
    Ok(findings)
}
