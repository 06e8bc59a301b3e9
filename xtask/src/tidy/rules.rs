//! Limits on sizes, and tests that nobody runs.

use std::path::Path;

use super::source::Source;
use super::{FILE_BYTES, FILE_LINES, FUNCTION_LINES, Finding};

/// A tracked file that is too large to live in a repository.
pub(super) fn bytes(file: &Path, size: u64) -> Option<Finding> {
    let what = format!("{size} bytes, more than {FILE_BYTES}");
    let at = file.display().to_string();
    (size > FILE_BYTES).then_some(Finding { rule: "file-bytes", at, line: 1, size, limit: FILE_BYTES, what })
}

/// Functions and files that are too long. The file limit does not hold for code that only tests.
pub(super) fn sizes(file: &Path, text: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in source.functions.iter().filter(|function| function.lines > FUNCTION_LINES) {
        findings.push(Finding {
            rule: "function-lines",
            at: format!("{}#{}", file.display(), function.name),
            line: function.line,
            size: function.lines,
            limit: FUNCTION_LINES,
            what: format!("fn {} has {} lines, more than {FUNCTION_LINES}", function.name, function.lines),
        });
    }
    let tests: u64 = source.test_modules.iter().map(|module| module.lines).sum();
    let size = (text.lines().count() as u64).saturating_sub(tests);
    if size > FILE_LINES && !is_test_code(file) {
        let what = format!("{size} lines besides tests, more than {FILE_LINES}");
        let at = file.display().to_string();
        findings.push(Finding { rule: "file-lines", at, line: 1, size, limit: FILE_LINES, what });
    }
    findings
}

/// Tests marked `ignore` run nowhere and are counted nowhere; one that cannot run here says so by `flowyard_skip`.
pub(super) fn ignored(file: &Path, source: &Source) -> Vec<Finding> {
    let finding = |test: &super::source::Item| Finding {
        rule: "ignored-test",
        at: format!("{}#{}", file.display(), test.name),
        line: test.line,
        size: 1,
        limit: 0,
        what: format!("{} is ignored; call flowyard_skip::skip with the reason instead", test.name),
    };
    source.ignored.iter().map(finding).collect()
}

fn is_test_code(file: &Path) -> bool {
    let in_test_folder = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches");
    in_test_folder || file.file_stem().is_some_and(|stem| stem == "tests")
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn rules_broken(file: &str, code: &str) -> Vec<&'static str> {
        let parsed = source::parse(code).unwrap();
        sizes(Path::new(file), code, &parsed).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn seventy_lines_are_allowed_and_seventy_one_are_not() {
        let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert_eq!(rules_broken("a.rs", &body(70)), [""; 0]);
        assert_eq!(rules_broken("a.rs", &body(71)), ["function-lines"]);
    }

    #[test]
    fn inline_tests_do_not_count_against_the_file() {
        let code = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(799), "// x\n".repeat(500));
        assert_eq!(rules_broken("a.rs", &code), [""; 0]);
        assert_eq!(rules_broken("a.rs", &format!("// x\n// x\n{code}")), ["file-lines"]);
        assert_eq!(rules_broken("a/tests/b.rs", &format!("// x\n// x\n{code}")), [""; 0]);
    }
}
