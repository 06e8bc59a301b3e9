//! The text a flow was read from, and where in it each value stands.
//!
//! Values are found again by their path (`steps.train.retry.times`), so that the flow itself is plain values and the phases
//! after parsing still point at lines. A flow made from flags has no text: its paths are shown as the flags they came from.

use std::collections::BTreeMap;
use std::ops::Range;

use super::fields::STEP;
use crate::shown::shown_whole;

/// Characters of a source line that are shown before the marked ones, and in all.
const SHOWN_BEFORE: usize = 60;
const SHOWN_LINE: usize = 120;

/// Text and positions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Source {
    file: String,
    text: Option<String>,
    spans: BTreeMap<String, Range<usize>>,
}

/// A place in the text.
pub(crate) struct Spot {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) excerpt: Excerpt,
}

/// A line of the text with the part that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    pub(crate) before: usize,
    pub(crate) marked: usize,
}

impl Source {
    pub(crate) fn of_file(file: &str, text: &str) -> Self {
        Self { file: shown_whole(file, 4_096), text: Some(text.to_owned()), spans: BTreeMap::new() }
    }

    pub(crate) fn of_flags() -> Self {
        Self { file: "the command line".to_owned(), text: None, spans: BTreeMap::new() }
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn set_spans(&mut self, spans: BTreeMap<String, Range<usize>>) {
        self.spans = spans;
    }

    /// Where the value at `path` stands: itself, what it took from `[defaults]`, or the nearest thing around it.
    pub(crate) fn locate(&self, path: &str) -> Option<Range<usize>> {
        self.text.as_ref()?;
        let mut path = path;
        loop {
            if let Some(span) = self.spans.get(path).or_else(|| self.spans.get(&default_of(path)?)) {
                return Some(span.clone());
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// How a path without position is called: the flag it came from, or the file.
    pub(crate) fn place(&self, path: &str) -> String {
        if self.text.is_some() {
            return self.file.clone();
        }
        let rest = field_of(path).unwrap_or(path);
        let (field, name) = rest.split_once('.').map_or((rest, None), |(field, name)| (field, Some(name)));
        let flag = match field {
            "inputs" => "--input",
            "outputs" => "--output",
            "foreach" => "--array",
            "tags" => "--tag",
            "labels" => "--label",
            "constraints" => "--constraint",
            "mounts" => "--mount",
            "run" => return "the command".to_owned(),
            other => return shown_whole(&format!("--{}", other.replace('_', "-")), 100),
        };
        let name = name.map_or_else(String::new, |name| format!(" {name}"));
        shown_whole(&format!("{flag}{name}"), 100)
    }

    /// Line, column and excerpt of some bytes of the text.
    pub(crate) fn spot(&self, span: Range<usize>) -> Spot {
        let text = self.text.as_deref().unwrap_or_default();
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor_boundary(text, span.end).clamp(start, line_end);
        let before = &text[line_start..start];
        Spot {
            line: text[..line_start].matches('\n').count() + 1,
            column: before.chars().count() + 1,
            excerpt: excerpt(before, &text[start..end], text[end..line_end].trim_end()),
        }
    }
}

fn default_of(path: &str) -> Option<String> {
    Some(format!("defaults.{}", field_of(path)?))
}

/// The part of a step's path that starts with the field. The name of the step may have dots itself.
fn field_of(path: &str) -> Option<&str> {
    let mut rest = path.strip_prefix("steps.")?;
    loop {
        rest = rest.split_once('.')?.1;
        let field = rest.split('.').next();
        if STEP.iter().any(|known| Some(known.name) == field) {
            return Some(rest);
        }
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The line cut to a width that fits, with everything harmful escaped; the caret counts what is shown, not what was read.
fn excerpt(before: &str, marked: &str, after: &str) -> Excerpt {
    let skipped = before.chars().count().saturating_sub(SHOWN_BEFORE);
    let tail: String = before.chars().skip(skipped).collect();
    let ellipsis = if skipped > 0 { "..." } else { "" };
    let lead = format!("{ellipsis}{}", plain(&tail, SHOWN_BEFORE));
    let shown_mark = plain(marked.trim_end_matches('\r'), SHOWN_LINE);
    let count = lead.chars().count();
    let length = shown_mark.chars().count();
    let room = SHOWN_LINE.saturating_sub(length);
    let text = format!("{lead}{shown_mark}{}", plain(after, room));
    Excerpt { text: text.trim_end().to_owned(), before: count, marked: length.max(1) }
}

fn plain(text: &str, most: usize) -> String {
    shown_whole(&text.replace('\t', " "), most)
}
