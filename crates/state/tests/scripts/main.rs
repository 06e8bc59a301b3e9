//! Runs the scripts in `testdata`: commands of a tiny language, each with the expected output beside it.
//!
//! A script is a sequence of blocks: a command (its first line and indented lines below it), `----`, and the output up to an
//! empty line. Lines that start with `#` are for the reader. `UPDATE=1 cargo test -p flowyard-state --test scripts` writes
//! the outputs anew; read the difference before believing it.
//!
//! After every command the invariants are checked, and the state is taken apart into records and put together again.
// The ban on files is for `apply`; the scripts are files.
#![allow(clippy::disallowed_methods)]

mod language;
mod print;

use std::fmt::Write as _;
use std::path::Path;

use language::Machine;

#[test]
fn scripts_give_the_written_output() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for path in scripts {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = run(&expected);
        if actual == expected {
            continue;
        }
        if update {
            std::fs::write(&path, &actual).unwrap();
        } else {
            let differs = expected.lines().zip(actual.lines()).position(|(old, new)| old != new);
            let line = differs.unwrap_or(expected.lines().count().min(actual.lines().count()));
            let from = line.saturating_sub(4);
            let shown: Vec<_> = actual.lines().skip(from).take(16).collect();
            wrong.push(format!("{}:{}: now\n{}\n", path.display(), line + 1, shown.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The script with the outputs that its commands give now.
fn run(script: &str) -> String {
    let mut machine = Machine::new();
    let mut written = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(written, "{line}").unwrap();
            continue;
        }
        let mut command = vec![line];
        for line in lines.by_ref() {
            if line == "----" {
                break;
            }
            command.push(line);
        }
        while lines.next_if(|line| !line.is_empty()).is_some() {}
        let output = machine.run(&command);
        write!(written, "{}\n----\n{output}", command.join("\n")).unwrap();
    }
    written
}
