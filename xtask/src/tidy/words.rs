//! Words that mark unfinished work. The main branch has none: unfinished work is an issue or a branch.

use std::path::Path;

use super::Finding;

/// Put together here so that this file does not break its own rule.
const BANNED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
const BANNED_MACROS: &[&str] = &[concat!("to", "do!"), concat!("unimple", "mented!")];

/// Lines that hold a banned word. Input data and lock files are not ours to word.
pub(super) fn banned(file: &Path, text: &str) -> Vec<Finding> {
    let generated = file.extension().is_some_and(|extension| extension == "lock" || extension == "csv");
    if generated {
        return Vec::new();
    }
    let code = file.extension().is_some_and(|extension| extension == "rs");
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let word = BANNED.iter().find(|word| holds(line, word));
        let found = word.or_else(|| BANNED_MACROS.iter().find(|name| code && holds(line, name)));
        if let Some(word) = found {
            let what = format!("the word {word}: finish it, or write it down as an issue");
            let at = file.display().to_string();
            findings.push(Finding { rule: "word", at, line: index + 1, size: 1, limit: 0, what });
        }
    }
    findings
}

/// Whether `line` holds `word` with no letter, digit or underscore around it.
fn holds(line: &str, word: &str) -> bool {
    let inner = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let ends = word.ends_with('!') || !after.is_some_and(inner);
        ends && !before.is_some_and(inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found_and_parts_of_words_are_not() {
        assert!(holds(concat!("// TO", "DO: later"), BANNED[0]));
        assert!(!holds(concat!("mktemp /tmp/XX", "XXXX"), BANNED[2]));
        assert!(holds(concat!("    to", "do!()"), BANNED_MACROS[0]));
    }
}
