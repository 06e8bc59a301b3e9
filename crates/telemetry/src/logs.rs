//! What goes on inside, as lines of JSON: on standard error if an operator wants them so, and the newest in memory, for whoever looks
//! for a fault later.
//!
//! A line has `at_ms`, `level`, `target`, `message`, what this process said of itself with [`identify`] (`part`, and its
//! `name`), and the event's own fields under the names that the code gives them: `node`, `job`, `key` (of an attempt), `term`,
//! `replica`, `error`.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Bytes of the newest lines that are kept in memory.
const KEPT_BYTES: usize = 512 * 1024;
/// Bytes of one text in a line.
const TEXT_BYTES: usize = 4 * 1024;

static IDENTITY: LazyLock<Mutex<Map<String, Value>>> = LazyLock::new(Mutex::default);
static RECENT: Mutex<Recent> = Mutex::new(Recent { lines: VecDeque::new(), bytes: 0 });

struct Recent {
    lines: VecDeque<String>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what this process is, in each line from now on.
pub fn identify(name: &str, value: impl fmt::Display) {
    lock(&IDENTITY).insert(name.to_owned(), Value::String(value.to_string()));
}

/// The newest lines, oldest first, each with its end.
pub fn recent() -> String {
    lock(&RECENT).lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// To standard error.
    Told,
    /// Into memory, the oldest making way.
    Kept,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(event);
        match self {
            // Nobody can be told that nobody can be told.
            Self::Told => drop(std::io::stderr().lock().write_all(format!("{line}\n").as_bytes())),
            Self::Kept => keep(line),
        }
    }
}

fn keep(line: String) {
    let mut recent = lock(&RECENT);
    recent.bytes += line.len();
    recent.lines.push_back(line);
    while recent.bytes > KEPT_BYTES {
        let Some(oldest) = recent.lines.pop_front() else { return };
        recent.bytes -= oldest.len();
    }
}

fn line(event: &Event<'_>) -> String {
    let mut fields = Map::new();
    fields.insert("at_ms".to_owned(), flowyard_clock::wall_ms().into());
    fields.insert("level".to_owned(), event.metadata().level().as_str().to_lowercase().into());
    fields.insert("target".to_owned(), event.metadata().target().into());
    fields.extend(lock(&IDENTITY).clone());
    event.record(&mut Fields(&mut fields));
    Value::Object(fields).to_string()
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

fn shortened(text: &str) -> Value {
    match text.char_indices().find(|(at, _)| *at >= TEXT_BYTES) {
        Some((at, _)) => format!("{}...", &text[..at]).into(),
        None => text.into(),
    }
}

impl Visit for Fields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, shortened(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(source) = cause {
            // Writing to a string does not fail.
            let _ = write!(text, ": {source}");
            cause = source.source();
        }
        self.put(field, shortened(&text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, shortened(&format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_line_is_one_object_with_who_says_it_and_the_newest_are_kept() {
        identify("part", "coordinator");
        let subscriber = tracing_subscriber::registry().with(Lines::Kept);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(node = 7, error = %"no\n\"way\"", "a node went");
            let last = recent().lines().last().unwrap().to_owned();
            let read: Value = serde_json::from_str(&last).unwrap();
            assert_eq!((&read["level"], &read["part"]), (&"warn".into(), &"coordinator".into()));
            assert_eq!((&read["node"], &read["error"]), (&7.into(), &"no\n\"way\"".into()));
            assert_eq!(read["message"], "a node went");
            for _ in 0..KEPT_BYTES / 1_000 {
                tracing::info!(text = "x".repeat(2_000), "much");
            }
        });
        let kept = recent();
        assert!(kept.len() < KEPT_BYTES + KEPT_BYTES / 10 && !kept.contains("a node went"), "{} bytes", kept.len());
    }
}
