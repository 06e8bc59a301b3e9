//! What is wrong with a flow, or a file that is read like one, as its writer reads it: place, message, the line with a caret, and help.
//!
//! Invariant: no control character of the file reaches a message.

use std::fmt;

use serde::Serialize;

use super::source::{Excerpt, Source};
use crate::shown::shown_whole;

/// Problems reported at most; a file that is no flow at all would have one per line.
const MOST_PROBLEMS: usize = 50;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where, for a person: `flow.toml:12:1`, `--input data`, `-P folds=x`.
    pub place: String,
    /// Line in the flow file, from 1.
    pub line: Option<usize>,
    /// Character in that line, from 1.
    pub column: Option<usize>,
    /// Where in the flow: `steps.train.retry.times`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        let margin = match (&self.excerpt, self.line) {
            (Some(excerpt), Some(line)) => {
                let number = line.to_string();
                let margin = " ".repeat(number.len());
                write!(f, "\n  {number} | {}", excerpt.text)?;
                write!(f, "\n  {margin} | {}{}", " ".repeat(excerpt.before), "^".repeat(excerpt.marked))?;
                margin
            }
            _ => String::new(),
        };
        match &self.help {
            Some(help) => write!(f, "\n  {margin} = {help}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a flow, or a file of queues; at least one problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FlowError {
    /// The file as the user named it, or `the command line`.
    pub file: String,
    /// In the order of the file.
    pub problems: Vec<Problem>,
    /// Further problems that were found and not kept.
    pub left_out: usize,
    /// Whether nothing is known to be wrong in the file, since it could not be read.
    pub unreadable: bool,
}

impl FlowError {
    /// A file that cannot be read.
    pub(crate) fn unreadable(file: &str, message: String, help: Option<String>) -> Self {
        Self { unreadable: true, ..Self::whole(file, message, help) }
    }

    /// A single problem that has no place inside the file.
    pub(crate) fn whole(file: &str, message: String, help: Option<String>) -> Self {
        let file = shown_whole(file, 4_096);
        let problem = Problem {
            place: file.clone(),
            line: None,
            column: None,
            path: String::new(),
            message,
            help,
            excerpt: None,
        };
        Self { file, problems: vec![problem], left_out: 0, unreadable: false }
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more problems", self.left_out)?;
        }
        Ok(())
    }
}

/// Collects the problems of one phase.
pub(crate) struct Problems<'s> {
    source: &'s Source,
    found: Vec<(usize, Problem)>,
    left_out: usize,
}

impl<'s> Problems<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self { source, found: Vec::new(), left_out: 0 }
    }

    /// A problem with what the flow says at `path`.
    pub(crate) fn at_path(&mut self, path: &str, message: impl Into<String>) -> Reported<'_> {
        let span = self.source.locate(path);
        self.report(span, path, message.into())
    }

    /// A problem with these bytes of the file.
    pub(crate) fn at_span(
        &mut self,
        span: std::ops::Range<usize>,
        path: &str,
        message: impl Into<String>,
    ) -> Reported<'_> {
        self.report(Some(span), path, message.into())
    }

    /// A problem with something outside the file, such as a flag.
    pub(crate) fn outside(&mut self, place: String, message: impl Into<String>) -> Reported<'_> {
        let problem = Problem {
            place,
            line: None,
            column: None,
            path: String::new(),
            message: message.into(),
            help: None,
            excerpt: None,
        };
        self.keep(usize::MAX, problem)
    }

    fn report(&mut self, span: Option<std::ops::Range<usize>>, path: &str, message: String) -> Reported<'_> {
        let offset = span.as_ref().map_or(usize::MAX, |span| span.start);
        let spot = span.map(|span| self.source.spot(span));
        let place = match &spot {
            Some(spot) => format!("{}:{}:{}", self.source.file(), spot.line, spot.column),
            None => self.source.place(path),
        };
        let problem = Problem {
            place,
            line: spot.as_ref().map(|spot| spot.line),
            column: spot.as_ref().map(|spot| spot.column),
            path: shown_whole(path, 1_024),
            message,
            help: None,
            excerpt: spot.map(|spot| spot.excerpt),
        };
        self.keep(offset, problem)
    }

    fn keep(&mut self, offset: usize, problem: Problem) -> Reported<'_> {
        let same = |(at, other): &(usize, Problem)| *at == offset && other.message == problem.message;
        if self.found.iter().any(|known| known.1.place == problem.place && same(known)) {
            return Reported(None);
        }
        if self.found.len() == MOST_PROBLEMS {
            self.left_out += 1;
            return Reported(None);
        }
        self.found.push((offset, problem));
        Reported(self.found.last_mut().map(|(_, problem)| problem))
    }

    /// How many were found.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.left_out
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `value` if nothing is wrong.
    pub(crate) fn into_result<T>(mut self, value: impl FnOnce() -> T) -> Result<T, FlowError> {
        if self.found.is_empty() {
            return Ok(value());
        }
        self.found.sort_by_key(|(offset, _)| *offset);
        let problems = self.found.into_iter().map(|(_, problem)| problem).collect();
        Err(FlowError { file: self.source.file().to_owned(), problems, left_out: self.left_out, unreadable: false })
    }
}

/// A problem just reported, to add help to.
pub(crate) struct Reported<'p>(Option<&'p mut Problem>);

impl Reported<'_> {
    pub(crate) fn help(self, help: impl Into<String>) {
        if let Some(problem) = self.0 {
            problem.help = Some(help.into());
        }
    }
}
