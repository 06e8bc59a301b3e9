//! Type names that say nothing. Each of these parts hides what a type is; the glossary has a word for it.

use std::path::Path;

use super::Finding;
use super::source::Source;

const FORBIDDEN: &[&str] = &[
    "Manager", "Handler", "Helper", "Util", "Utils", "Service", "Info", "Data", "Simple", "Default", "Inner", "New",
    "Worker",
];

/// Types of this file whose name holds a forbidden part.
pub(super) fn forbidden(file: &Path, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for named in &source.types {
        let parts = parts_of(&named.name);
        let Some(part) = parts.iter().find(|part| FORBIDDEN.contains(&part.as_str())) else {
            continue;
        };
        findings.push(Finding {
            rule: "type-name",
            at: format!("{}#{}", file.display(), named.name),
            line: named.line,
            size: 1,
            limit: 0,
            what: format!("the type name {} says `{part}`; name what it is", named.name),
        });
    }
    findings
}

/// The words of a name in camel case.
fn parts_of(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for letter in name.chars() {
        match parts.last_mut() {
            Some(part) if !letter.is_uppercase() => part.push(letter),
            _ => parts.push(letter.to_string()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_word_is_found_only_as_a_whole_part() {
        let judged = |name: &str| parts_of(name).iter().any(|part| FORBIDDEN.contains(&part.as_str()));
        assert!(judged("JobManager") && judged("NewJob") && judged("NodeInfo"));
        assert!(!judged("Newtype") && !judged("Database") && !judged("Information"));
    }
}
