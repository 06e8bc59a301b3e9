//! How long attempts may make no progress: the table `[stuck]` of a coordinator's settings.

use flowyard_model::StuckLimits;
use flowyard_sdk::units::{self, QuantityError};
use serde::{Deserialize, Serialize};

/// The table as written, with units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StuckTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepting: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetching: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starting: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    storing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopping: Option<String>,
}

impl StuckTable {
    /// The limits it says; the usual ones where it says nothing.
    ///
    /// # Errors
    /// The key whose value is no time, and why.
    pub(crate) fn limits(&self) -> Result<StuckLimits, (String, QuantityError)> {
        let read = |key: &str, text: &Option<String>, otherwise: u64| match text {
            None => Ok(otherwise),
            Some(text) => units::positive_duration_ms(text).map_err(|error| (format!("stuck.{key}"), error)),
        };
        let standard = StuckLimits::STANDARD;
        Ok(StuckLimits {
            accepting_ms: read("accepting", &self.accepting, standard.accepting_ms)?,
            fetching_ms: read("fetching", &self.fetching, standard.fetching_ms)?,
            starting_ms: read("starting", &self.starting, standard.starting_ms)?,
            storing_ms: read("storing", &self.storing, standard.storing_ms)?,
            stopping_ms: read("stopping", &self.stopping, standard.stopping_ms)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_holds_and_the_rest_is_as_usual() {
        let table: StuckTable = toml::from_str("fetching = \"1h\"").unwrap();
        let expected = StuckLimits { fetching_ms: 3_600_000, ..StuckLimits::STANDARD };
        assert_eq!(table.limits(), Ok(expected));
        let table: StuckTable = toml::from_str("storing = \"soon\"").unwrap();
        assert_eq!(table.limits().unwrap_err().0, "stuck.storing");
        assert!(toml::from_str::<StuckTable>("running = \"1h\"").is_err(), "what runs is bounded by its timeout");
    }
}
