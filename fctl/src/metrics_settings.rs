//! Where figures of a coordinator, an agent or an embedded cluster are read: the table `[metrics]` of its settings, and `--metrics`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use flowyard_telemetry::endpoint::{Bound, bind};
use flowyard_telemetry::{Exposition, Listening, Served, Source};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output;

/// The table as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
}

impl MetricsTable {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Where figures are read, if anywhere; the flag goes before the file's address.
    ///
    /// # Errors
    /// The key whose value is wrong, and why.
    pub(crate) fn listening(&self, flag: Option<SocketAddr>) -> Result<Option<Listening>, (&'static str, String)> {
        let wrong = |text: &str| ("metrics.listen", format!("`{text}` is not an address; write IP:PORT"));
        let listen = self.listen.as_ref().map(|text| text.parse().map_err(|_| wrong(text))).transpose()?;
        let tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(("metrics.key", "it is missing, and `certificate` is given".to_owned())),
            (None, Some(_)) => return Err(("metrics.certificate", "it is missing, and `key` is given".to_owned())),
        };
        let token_file = self.token_file.clone();
        Ok(flag.or(listen).map(|address| Listening { address, token_file, tls }))
    }
}

/// A place to read figures, taken before there are any.
pub(crate) struct Place {
    bound: Option<Bound>,
}

impl Place {
    /// Takes it, if there is to be one.
    ///
    /// # Errors
    /// When it may not be used, or cannot.
    pub(crate) async fn take(listening: Option<Listening>) -> Result<Self, Failure> {
        let Some(listening) = listening else { return Ok(Self { bound: None }) };
        let bound = bind(listening).await.map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Self { bound: Some(bound) })
    }

    /// Serves figures there, until that is dropped, and says where.
    pub(crate) fn serve(self, sources: Vec<Arc<dyn Source>>) -> Option<Served> {
        let served = self.bound.map(|bound| bound.serve(Exposition::of(sources)))?;
        output::note(format!("metrics are read at {}", served.url()));
        Some(served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, flag: Option<&str>) -> Result<Option<Listening>, (&'static str, String)> {
        let table: MetricsTable = toml::from_str(text).unwrap();
        table.listening(flag.map(|flag| flag.parse().unwrap()))
    }

    #[test]
    fn nobody_reads_figures_unless_that_was_asked_for() {
        assert_eq!(read("", None), Ok(None));
        assert_eq!(read("token_file = \"/t\"", None), Ok(None));
        let asked = read("listen = \"127.0.0.1:1\"\ntoken_file = \"/t\"", Some("127.0.0.1:2")).unwrap().unwrap();
        assert_eq!((asked.address.port(), asked.token_file), (2, Some("/t".into())));
        assert_eq!(read("listen = \"here\"", None).unwrap_err().0, "metrics.listen");
        assert_eq!(read("certificate = \"/c\"", None).unwrap_err().0, "metrics.key");
        assert_eq!(read("key = \"/k\"", None).unwrap_err().0, "metrics.certificate");
    }
}
