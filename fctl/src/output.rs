//! Writing answers: text for people, JSON for programs. A closed pipe is the reader's choice and no error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use flowyard_sdk::client::Staleness;
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::cli::OutputKind;
use crate::text;

static KIND: OnceLock<OutputKind> = OnceLock::new();

/// Decides how answers are written, once.
pub(crate) fn choose(kind: OutputKind) {
    let _ = KIND.set(kind);
}

/// Whether answers are written for programs.
pub(crate) fn is_json() -> bool {
    KIND.get() == Some(&OutputKind::Json)
}

/// Whether people see standard error as it comes.
pub(crate) fn is_terminal() -> bool {
    std::io::stderr().is_terminal() && !is_json()
}

/// Writes a line of the answer.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = anstream::stdout().lock();
    closed_is_fine(writeln!(out, "{}", text.as_ref()));
}

/// Writes bytes of the answer as they are, and at once.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    closed_is_fine(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Writes bytes to standard error as they are.
pub(crate) fn error_bytes(bytes: &[u8]) {
    closed_is_fine(std::io::stderr().lock().write_all(bytes));
}

static STALE: OnceLock<Staleness> = OnceLock::new();

/// Labels the answer that follows as one that may be old: in its first line, or in a field of its object.
pub(crate) fn label_stale(staleness: Staleness) {
    let _ = STALE.set(staleness);
    if !is_json() {
        let age = text::duration(age_ms(staleness));
        line(format!("stale: as of revision {}, which was changed last {age} ago", staleness.revision));
    }
}

fn age_ms(staleness: Staleness) -> u64 {
    flowyard_clock::wall_ms().saturating_sub(staleness.changed_ms)
}

/// Writes an answer for programs, on one line.
pub(crate) fn json(answer: &impl Serialize) {
    match STALE.get() {
        None => write_json(answer),
        Some(staleness) => {
            let mut answer = serde_json::to_value(answer).unwrap_or_default();
            if let Some(object) = answer.as_object_mut() {
                let label = serde_json::json!({ "revision": staleness.revision, "age_ms": age_ms(*staleness) });
                object.insert("stale".to_owned(), label);
            }
            write_json(&answer);
        }
    }
}

fn write_json(answer: &impl Serialize) {
    let mut out = std::io::stdout().lock();
    let written = serde_json::to_writer(&mut out, answer).map_err(std::io::Error::from);
    closed_is_fine(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
}

/// Says something beside the answer, for people.
pub(crate) fn note(text: impl AsRef<str>) {
    closed_is_fine(writeln!(anstream::stderr().lock(), "{}", text.as_ref()));
}

/// Says what somebody should know before it does harm.
pub(crate) fn warning(text: impl AsRef<str>) {
    closed_is_fine(writeln!(anstream::stderr().lock(), "{} {}", "warning:".yellow().bold(), text.as_ref()));
}

/// Says what went wrong.
pub(crate) fn error(text: &str) {
    if is_json() {
        json(&serde_json::json!({ "error": text }));
    }
    closed_is_fine(writeln!(anstream::stderr().lock(), "{} {text}", "error:".red().bold()));
}

/// A reader that went away ends the command quietly, as other programs in a pipe do.
fn closed_is_fine(written: std::io::Result<()>) {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        _ => {}
    }
}
