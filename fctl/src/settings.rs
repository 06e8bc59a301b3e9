//! Settings of the embedded cluster: `config.toml` in its home, with the values that hold where it says nothing; and the user's own
//! `config.toml`, which may name an endpoint.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use flowyard_agent::inventory::fake::FakeGpus;
use flowyard_agent::{EmbeddedChoices, Net, NetworkChoices, NoNet, NoPool, NoSpan};
use flowyard_coordinator::Timing;
use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_model::{Name, PortRange, StuckLimits, limits};
use flowyard_sdk::units;
use flowyard_telemetry::Listening;
use serde::Deserialize;

use crate::failure::Failure;
use crate::home::Home;
use crate::keeping_settings::{Keeping, LogTable, RetentionTable};
use crate::metrics_settings::MetricsTable;
use crate::stuck_settings::StuckTable;

/// Bytes of stored blobs above which the oldest ended jobs are forgotten.
const STORAGE_BUDGET_BYTES: u64 = 20 << 30;
/// Bytes of local copies above which the least used are evicted.
const CACHE_BUDGET_BYTES: u64 = 10 << 30;

/// Settings of the embedded cluster.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Log engine of a new home.
    pub engine: Option<EngineKind>,
    /// See [`STORAGE_BUDGET_BYTES`].
    pub storage_budget_bytes: u64,
    /// See [`CACHE_BUDGET_BYTES`].
    pub cache_budget_bytes: u64,
    /// How long an attempt with `on_disconnect = "stop"` runs without word from its coordinator.
    pub lease_ms: u64,
    /// How long attempts may make no progress.
    pub stuck: StuckLimits,
    /// How long the past is kept.
    pub keeping: Keeping,
    /// Settings of its agent.
    pub agent: EmbeddedChoices,
    /// The collector that is told of jobs; from the flag of `fctl dev`.
    pub otlp: Option<String>,
    metrics: MetricsTable,
    path: PathBuf,
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    engine: Option<String>,
    storage_budget: Option<String>,
    cache_budget: Option<String>,
    lease: Option<String>,
    #[serde(default)]
    stuck: StuckTable,
    #[serde(default)]
    retention: RetentionTable,
    #[serde(default)]
    log: LogTable,
    #[serde(default)]
    agent: AgentFile,
    #[serde(default)]
    metrics: MetricsTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentFile {
    #[serde(default)]
    fake_gpus: FakeGpus,
    #[serde(default)]
    fake_mig: Vec<String>,
    oci_runtime: Option<PathBuf>,
    #[serde(default)]
    labels: BTreeMap<Name, String>,
    #[serde(default)]
    allow_mounts: Vec<PathBuf>,
    cpu: Option<String>,
    memory: Option<String>,
    user: Option<String>,
    users: Option<String>,
    filter: Option<bool>,
    addresses: Option<String>,
    #[serde(default)]
    allow_addresses: Vec<String>,
    #[serde(default)]
    deny_addresses: Vec<String>,
    #[serde(default)]
    nameservers: Vec<Ipv4Addr>,
    address: Option<String>,
    gang_ports: Option<String>,
}

impl AgentFile {
    /// By what other hosts reach this one.
    fn address(&self) -> Result<Option<String>, (&'static str, String)> {
        let plain = |address: &String| !address.is_empty() && address.chars().all(|c| c.is_ascii_graphic());
        match &self.address {
            Some(address) if !plain(address) => {
                Err(("agent.address", "a host name or an address, such as \"10.0.0.7\"".to_owned()))
            }
            address => Ok(address.clone()),
        }
    }

    /// The ports that gangs are given here.
    fn gang_ports(&self) -> Result<Option<PortRange>, (&'static str, String)> {
        let Some(text) = &self.gang_ports else { return Ok(None) };
        let range = text.split_once('-').and_then(|(first, last)| {
            let range = PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
            let sound = range.first >= 1 && range.first <= range.last && range.count() <= limits::GANG_PORTS;
            sound.then_some(range)
        });
        let expected =
            || format!("`{text}` is not a range such as \"28000-28999\" of at most {} ports", limits::GANG_PORTS);
        range.map(Some).ok_or_else(|| ("agent.gang_ports", expected()))
    }

    /// What it says of networks, or which field says it badly.
    fn networks(&self) -> Result<NetworkChoices, (&'static str, String)> {
        let usual = NetworkChoices::default();
        let nets = |field: &'static str, texts: &[String]| {
            let read = texts.iter().map(|text| text.parse().map_err(|error: NoNet| (field, error.to_string())));
            read.collect::<Result<Vec<Net>, _>>()
        };
        let addresses = self.addresses.as_ref().map_or(Ok(usual.addresses), |text| text.parse());
        Ok(NetworkChoices {
            filter: self.filter.unwrap_or(usual.filter),
            addresses: addresses.map_err(|error: NoPool| ("agent.addresses", error.to_string()))?,
            allow: nets("agent.allow_addresses", &self.allow_addresses)?,
            deny: nets("agent.deny_addresses", &self.deny_addresses)?,
            nameservers: self.nameservers.clone(),
        })
    }
}

/// The user's file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserFile {
    endpoint: Option<String>,
}

impl Settings {
    /// Reads the settings of a home.
    ///
    /// # Errors
    /// When its file cannot be read, or says what is not known.
    pub(crate) fn of(home: &Home) -> Result<Self, Failure> {
        Self::of_file(&home.config())
    }

    /// Reads settings from this file; what it does not say holds as usual.
    ///
    /// # Errors
    /// When it cannot be read, or says what is not known.
    pub(crate) fn of_file(path: &Path) -> Result<Self, Failure> {
        let file: File = read(path)?;
        let wrong = |field: &str, error: &dyn std::fmt::Display| {
            Failure::Usage(format!("{}: {field}: {error}", path.display()))
        };
        let bytes = |field: &str, text: &Option<String>| {
            text.as_ref().map(|text| units::bytes(text).map_err(|error| wrong(field, &error))).transpose()
        };
        let engine = file.engine.as_ref().map(|name| {
            EngineKind::from_name(name)
                .ok_or_else(|| wrong("engine", &format!("`{name}` is none of: journal, redb, sled")))
        });
        let users =
            file.agent.users.as_ref().map(|text| text.parse().map_err(|error: NoSpan| wrong("agent.users", &error)));
        let cpu =
            file.agent.cpu.as_ref().map(|text| units::cpu_milli(text).map_err(|error| wrong("agent.cpu", &error)));
        Ok(Self {
            engine: engine.transpose()?,
            storage_budget_bytes: bytes("storage_budget", &file.storage_budget)?.unwrap_or(STORAGE_BUDGET_BYTES),
            cache_budget_bytes: bytes("cache_budget", &file.cache_budget)?.unwrap_or(CACHE_BUDGET_BYTES),
            lease_ms: file
                .lease
                .as_ref()
                .map_or(Ok(Timing::STANDARD.lease_ms), |text| lease(text).map_err(|error| wrong("lease", &error)))?,
            stuck: file.stuck.limits().map_err(|(field, error)| wrong(&field, &error))?,
            keeping: Keeping::of(&file.retention, &file.log).map_err(|(field, error)| wrong(field, &error))?,
            agent: EmbeddedChoices {
                fake_gpus: file.agent.fake_gpus,
                fake_mig: file.agent.fake_mig.clone(),
                oci_runtime: file.agent.oci_runtime.clone(),
                labels: file.agent.labels.clone(),
                allow_mounts: file.agent.allow_mounts.clone(),
                cpu_milli: cpu.transpose()?,
                memory_bytes: bytes("agent.memory", &file.agent.memory)?,
                user: file.agent.user.clone(),
                users: users.transpose()?,
                networks: file.agent.networks().map_err(|(field, error)| wrong(field, &error))?,
                address: file.agent.address().map_err(|(field, error)| wrong(field, &error))?,
                gang_ports: file.agent.gang_ports().map_err(|(field, error)| wrong(field, &error))?,
            },
            otlp: None,
            metrics: file.metrics.clone(),
            path: path.to_owned(),
        })
    }
}

impl Settings {
    /// Where figures are read, if anywhere.
    ///
    /// # Errors
    /// When the file says what makes no sense.
    pub(crate) fn metrics(&self, flag: Option<SocketAddr>) -> Result<Option<Listening>, Failure> {
        let wrong =
            |(field, error): (&str, String)| Failure::Usage(format!("{}: {field}: {error}", self.path.display()));
        self.metrics.listening(flag).map_err(wrong)
    }
}

/// A lease that its agent can renew in time, and that ends before its node is given up.
fn lease(text: &str) -> Result<u64, String> {
    let Timing { heartbeat_ms, down_ms, .. } = Timing::STANDARD;
    let (least, most) = (heartbeat_ms * 2, down_ms - Timing::MARGIN_MS);
    match units::positive_duration_ms(text).map_err(|error| error.to_string())? {
        lease if (least..=most).contains(&lease) => Ok(lease),
        _ => Err(format!("`{text}` is not a time from {}s to {}s", least / 1_000, most / 1_000)),
    }
}

/// The endpoint that the user's own file names, and that file.
///
/// # Errors
/// When the file cannot be read, or says what is not known.
pub(crate) fn configured_endpoint() -> Result<Option<(String, PathBuf)>, Failure> {
    let Some(path) = dirs::config_dir().map(|folder| folder.join("flowyard/config.toml")) else { return Ok(None) };
    let file: UserFile = read(&path)?;
    Ok(file.endpoint.map(|endpoint| (endpoint, path)))
}

fn read<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(source) => Err(Failure::Local { path: path.display().to_string(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Settings::of_file(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn users_and_networks_of_tasks_are_read_and_what_is_wrong_is_named() {
        let usual = read("").unwrap().agent;
        assert_eq!((usual.users, usual.networks), (None, NetworkChoices::default()));
        let text = "[agent]\nusers = \"200000-400000\"\nfilter = false\naddresses = \"10.9.0.0/24\"\n\
                    allow_addresses = [\"169.254.169.254\"]\ndeny_addresses = [\"10.0.0.0/8\"]\nnameservers = [\"9.9.9.9\"]\n";
        let agent = read(text).unwrap().agent;
        assert_eq!(agent.users.unwrap().to_string(), "200000-400000");
        assert!(!agent.networks.filter && agent.networks.addresses.to_string() == "10.9.0.0/24");
        assert_eq!(
            (agent.networks.allow.len(), agent.networks.deny.len(), agent.networks.nameservers.len()),
            (1, 1, 1)
        );
        for (text, named) in [
            ("users = \"0-99999\"", "agent.users"),
            ("addresses = \"10.9.0.1/24\"", "agent.addresses"),
            ("allow_addresses = [\"host\"]", "agent.allow_addresses"),
            ("deny_addresses = [\"10.0.0.0/99\"]", "agent.deny_addresses"),
            ("nameservers = [\"dns\"]", "nameservers"),
            ("address = \"a b\"", "agent.address"),
            ("gang_ports = \"9-8\"", "agent.gang_ports"),
            ("gang_ports = \"1-60000\"", "agent.gang_ports"),
        ] {
            let error = read(&format!("[agent]\n{text}\n")).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
