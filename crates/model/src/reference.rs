//! How a person names a job or a part of it: `17`, `17/train`, `17/train/3`, `17/train/3#2`, `17/train/3#2.5`.

use std::fmt;
use std::str::FromStr;

use crate::{AttemptNumber, JobId, Name, Rank, TaskIndex};

/// A job or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The job.
    pub job: JobId,
    /// A step of it.
    pub step: Option<Name>,
    /// A task of that.
    pub task: Option<TaskIndex>,
    /// An attempt of that; `17/train#2` means the second attempt of its only task.
    pub attempt: Option<AttemptNumber>,
    /// A member of that.
    pub rank: Option<Rank>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a reference; write JOB, JOB/STEP, JOB/STEP/TASK or JOB/STEP/TASK#ATTEMPT, such as 17/train/3#2")]
pub struct ReferenceError(pub String);

impl Reference {
    /// A whole job.
    pub fn job(job: JobId) -> Self {
        Self { job, step: None, task: None, attempt: None, rank: None }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).ok_or_else(|| ReferenceError(text.chars().take(100).flat_map(char::escape_debug).collect()))
    }
}

fn parse(text: &str) -> Option<Reference> {
    let (path, attempt) = match text.split_once('#') {
        Some((path, attempt)) => (path, Some(attempt)),
        None => (text, None),
    };
    let mut parts = path.split('/');
    let job = JobId(number(parts.next()?)?);
    let step = parts.next().map(|part| part.parse::<Name>().ok()).map_or(Some(None), |name| name.map(Some))?;
    let task = parts.next().map(number).map_or(Some(None), |task| task.map(Some))?;
    if parts.next().is_some() || (attempt.is_some() && step.is_none()) {
        return None;
    }
    let (attempt, rank) = match attempt {
        None => (None, None),
        Some(text) => match text.split_once('.') {
            Some((attempt, rank)) => (Some(number(attempt)?), Some(number(rank)?)),
            None => (Some(number(text)?), None),
        },
    };
    Some(Reference { job, step, task: task.map(TaskIndex), attempt: attempt.map(AttemptNumber), rank: rank.map(Rank) })
}

/// A number without sign, blank or leading zero.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.job)?;
        if let Some(step) = &self.step {
            write!(f, "/{step}")?;
        }
        if let Some(task) = self.task {
            write!(f, "/{task}")?;
        }
        if let Some(attempt) = self.attempt {
            write!(f, "#{attempt}")?;
        }
        if let Some(rank) = self.rank {
            write!(f, ".{rank}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["17", "17/train", "17/train/3", "17/train/3#2", "17/train/3#2.5", "17/train#2", "1/0/0"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_and_cannot_reach_a_terminal() {
        for text in
            ["", "x", "17/", "17//3", "17/train/", "17/train/x", "17#1", "17/train/3#", "017", "+1", "17/a/1/2", "1 "]
        {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was taken for a reference");
        }
        let hostile = "\u{1b}[31m".parse::<Reference>().unwrap_err().to_string();
        assert!(!hostile.contains('\u{1b}'), "{hostile:?}");
    }
}
