//! How long the past is kept: the tables `[retention]` and `[log]` of a coordinator's settings.

use flowyard_coordinator::{LogKeeping, Retention};
use flowyard_model::limits;
use flowyard_sdk::units;
use serde::{Deserialize, Serialize};

/// Finished jobs, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jobs: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    archive: Option<String>,
}

/// Sealed segments of the log, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep_size: Option<String>,
}

/// How long the past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) retention: Retention,
    pub(crate) log: LogKeeping,
}

impl Keeping {
    /// What both tables say; as usual where they say nothing.
    ///
    /// # Errors
    /// The key whose value is wrong, and why.
    pub(crate) fn of(retention: &RetentionTable, log: &LogTable) -> Result<Self, (&'static str, String)> {
        let time = |key, text: &Option<String>, otherwise| match text {
            None => Ok(otherwise),
            Some(text) => units::duration_ms(text).map_err(|error| (key, error.to_string())),
        };
        let most = limits::FINISHED_JOBS;
        let jobs = retention.jobs.unwrap_or(most);
        if !(1..=most).contains(&jobs) {
            return Err(("retention.jobs", format!("{jobs} is not a whole number from 1 to {most}")));
        }
        let usual = LogKeeping::STANDARD;
        let keep_bytes = match &log.keep_size {
            None => usual.keep_bytes,
            Some(text) => units::bytes(text).map_err(|error| ("log.keep_size", error.to_string()))?,
        };
        Ok(Self {
            retention: Retention {
                jobs,
                age_ms: time("retention.age", &retention.age, Retention::STANDARD.age_ms)?,
                archive_ms: time("retention.archive", &retention.archive, Retention::STANDARD.archive_ms)?,
            },
            log: LogKeeping { keep_ms: time("log.keep", &log.keep, usual.keep_ms)?, keep_bytes },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(retention: &str, log: &str) -> Result<Keeping, (&'static str, String)> {
        Keeping::of(&toml::from_str(retention).unwrap(), &toml::from_str(log).unwrap())
    }

    #[test]
    fn what_is_said_holds_and_the_rest_is_as_usual() {
        let said = keeping("jobs = 5\narchive = \"0s\"", "keep_size = \"1GiB\"").unwrap();
        assert_eq!(said.retention, Retention { jobs: 5, archive_ms: 0, ..Retention::STANDARD });
        assert_eq!(said.log, LogKeeping { keep_bytes: 1 << 30, ..LogKeeping::STANDARD });
        assert_eq!(keeping("jobs = 0", "").unwrap_err().0, "retention.jobs");
        assert_eq!(keeping("age = \"long\"", "").unwrap_err().0, "retention.age");
    }
}
