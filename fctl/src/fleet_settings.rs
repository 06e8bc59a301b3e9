//! Settings of one coordinator of a fleet: `coordinator.toml` in its folder, written when it forms or joins a cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use flowyard_coordinator::fleet::{FleetConfig, MemberAddress};
use flowyard_coordinator::raft::Identity;
use flowyard_coordinator::{CallRate, Timing};
use flowyard_model::{ClusterVersion, NetworkMode, StuckLimits};
use flowyard_sdk::{flags, units};
use flowyard_telemetry::Listening;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::keeping_settings::{Keeping, LogTable, RetentionTable};
use crate::metrics_settings::MetricsTable;
use crate::stuck_settings::StuckTable;

const FILE: &str = "coordinator.toml";
const HEAD: &str = "# Written when this coordinator was made. Listening addresses, [nodes], [stuck], [retention], [log], [jobs], [calls],\n# [metrics], storage_budget, shared_origin and cluster_version_at_most may be changed; then restart it. The rest says who it is.\n\n";

/// The file as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetSettings {
    /// What people call the cluster.
    pub name: String,
    cluster: String,
    epoch: u32,
    replica: u64,
    /// Whether it is to vote once it has caught up.
    vote: bool,
    /// A folder that all coordinators share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_origin: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    storage_budget: Option<String>,
    /// The cluster's version is not raised above this, so that the release before can be gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_version_at_most: Option<u32>,
    api: Port,
    peers: Port,
    #[serde(default)]
    nodes: Nodes,
    #[serde(default)]
    stuck: StuckTable,
    #[serde(default)]
    retention: RetentionTable,
    #[serde(default)]
    log: LogTable,
    #[serde(default)]
    jobs: Jobs,
    #[serde(default, skip_serializing_if = "Calls::is_standard")]
    calls: Calls,
    #[serde(default, skip_serializing_if = "MetricsTable::is_empty")]
    metrics: MetricsTable,
}

/// What holds for jobs that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jobs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
}

/// How often one person may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Calls {
    per_second: u32,
    burst: u32,
}

impl Default for Calls {
    fn default() -> Self {
        let CallRate { per_second, burst } = CallRate::STANDARD;
        Self { per_second, burst }
    }
}

impl Calls {
    fn is_standard(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    listen: SocketAddr,
    address: String,
}

/// How nodes are watched, with units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nodes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspect: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
}

impl FleetSettings {
    /// The settings of a coordinator that was just made.
    pub(crate) fn made(name: &str, identity: Identity, address: &MemberAddress, listen: [SocketAddr; 2]) -> Self {
        let [api, peers] = listen;
        Self {
            name: name.to_owned(),
            cluster: identity.cluster.to_string(),
            epoch: identity.epoch,
            replica: identity.replica,
            vote: true,
            shared_origin: None,
            storage_budget: None,
            cluster_version_at_most: None,
            api: Port { listen: api, address: address.api.clone() },
            peers: Port { listen: peers, address: address.peers.clone() },
            nodes: Nodes::default(),
            stuck: StuckTable::default(),
            jobs: Jobs::default(),
            calls: Calls::default(),
            metrics: MetricsTable::default(),
            retention: RetentionTable::default(),
            log: LogTable::default(),
        }
    }

    /// The same, but only learning.
    #[must_use]
    pub(crate) fn learning(self, learning: bool) -> Self {
        Self { vote: !learning, ..self }
    }

    /// The same, of the epoch that begins.
    #[must_use]
    pub(crate) fn in_epoch(self, epoch: u32) -> Self {
        Self { epoch, vote: true, ..self }
    }

    /// Writes them into the coordinator's folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join(FILE);
        let text = toml::to_string(self).map_err(|error| Failure::Internal(format!("{}: {error}", path.display())))?;
        std::fs::write(&path, format!("{HEAD}{text}")).map_err(Failure::local(path.display()))
    }

    /// Reads those of a coordinator's folder.
    ///
    /// # Errors
    /// When there are none, or they make no sense.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::Home(format!(
                "{} has no coordinator; make one with `fctl coordinator init` or `fctl coordinator join`",
                folder.display()
            ))),
            Err(source) => Err(Failure::Local { path: path.display().to_string(), source }),
        }
    }

    /// Its place among other coordinators.
    ///
    /// # Errors
    /// When the file says what makes no sense.
    pub(crate) fn fleet(&self) -> Result<FleetConfig, Failure> {
        let wrong = |field: &str, error: &dyn std::fmt::Display| Failure::Usage(format!("{FILE}: {field}: {error}"));
        let cluster = self.cluster.parse().map_err(|error: uuid::Error| wrong("cluster", &error))?;
        let address = MemberAddress::new(&self.api.address, &self.peers.address);
        Ok(FleetConfig {
            name: self.name.clone(),
            identity: Identity { cluster, epoch: self.epoch, replica: self.replica },
            api_listen: self.api.listen,
            peer_listen: self.peers.listen,
            address: address.map_err(|error| wrong("address", &error))?,
            wants_vote: self.vote,
            version_at_most: self.cluster_version_at_most.map(ClusterVersion),
        })
    }

    /// How nodes are watched; the times are checked against each other.
    ///
    /// # Errors
    /// When what must be gone by the time its node is given up might not be.
    pub(crate) fn timing(&self) -> Result<Timing, Failure> {
        let wrong =
            |field: &str, error: &dyn std::fmt::Display| Failure::Usage(format!("{FILE}: nodes.{field}: {error}"));
        let read = |field: &str, text: &Option<String>, otherwise: u64| match text {
            None => Ok(otherwise),
            Some(text) => units::positive_duration_ms(text).map_err(|error| wrong(field, &error)),
        };
        let standard = Timing::STANDARD;
        let timing = Timing {
            suspect_ms: read("suspect", &self.nodes.suspect, standard.suspect_ms)?,
            down_ms: read("down", &self.nodes.down, standard.down_ms)?,
            lease_ms: read("lease", &self.nodes.lease, standard.lease_ms)?,
            ..standard
        };
        timing.check().map_err(|error| wrong(error.field, &error))?;
        Ok(timing)
    }

    /// How long attempts may make no progress.
    ///
    /// # Errors
    /// When a value is no time.
    pub(crate) fn stuck(&self) -> Result<StuckLimits, Failure> {
        self.stuck.limits().map_err(|(field, error)| Failure::Usage(format!("{FILE}: {field}: {error}")))
    }

    /// How long the past is kept.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub(crate) fn keeping(&self) -> Result<Keeping, Failure> {
        let kept = Keeping::of(&self.retention, &self.log);
        kept.map_err(|(field, error)| Failure::Usage(format!("{FILE}: {field}: {error}")))
    }

    /// The network of steps that ask for none in particular: one of their own, as tasks of a fleet are not trusted.
    ///
    /// # Errors
    /// When it is no network.
    pub(crate) fn usual_network(&self) -> Result<NetworkMode, Failure> {
        let Some(text) = &self.jobs.network else { return Ok(NetworkMode::Private) };
        flags::network(text).map_err(|error| Failure::Usage(format!("{FILE}: jobs.network: {error}")))
    }

    /// How often one person may call.
    pub(crate) fn call_rate(&self) -> CallRate {
        CallRate { per_second: self.calls.per_second, burst: self.calls.burst }
    }

    /// Where figures are read, if anywhere.
    ///
    /// # Errors
    /// When the file says what makes no sense.
    pub(crate) fn metrics(&self, flag: Option<SocketAddr>) -> Result<Option<Listening>, Failure> {
        let wrong = |(field, error)| Failure::Usage(format!("{FILE}: {field}: {error}"));
        self.metrics.listening(flag).map_err(wrong)
    }

    /// Bytes of stored blobs above which ended jobs are forgotten; 0 for no bound.
    ///
    /// # Errors
    /// When it is no size.
    pub(crate) fn storage_budget_bytes(&self) -> Result<u64, Failure> {
        let Some(text) = &self.storage_budget else { return Ok(0) };
        units::bytes(text).map_err(|error| Failure::Usage(format!("{FILE}: storage_budget: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> FleetSettings {
        let identity = Identity { cluster: uuid::Uuid::from_u128(5), epoch: 1, replica: 3 };
        let address = MemberAddress::new("c1:7400", "c1:7401").unwrap();
        let listen = ["0.0.0.0:7400", "0.0.0.0:7401"].map(|text| text.parse().unwrap());
        FleetSettings::made("lab", identity, &address, listen)
    }

    #[test]
    fn settings_are_read_back_and_what_they_do_not_know_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        settings().write(folder.path()).unwrap();
        assert_eq!(FleetSettings::read(folder.path()).unwrap(), settings());
        assert_eq!(settings().fleet().unwrap().identity.replica, 3);
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("vote", "veto")).unwrap();
        let error = FleetSettings::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("veto"), "{error}");
    }

    #[test]
    fn the_way_back_to_the_release_before_is_kept_if_asked_for() {
        assert_eq!(settings().fleet().unwrap().version_at_most, None);
        let folder = tempfile::tempdir().unwrap();
        let kept = FleetSettings { cluster_version_at_most: Some(2), ..settings() };
        kept.write(folder.path()).unwrap();
        let read = FleetSettings::read(folder.path()).unwrap().fleet().unwrap();
        assert_eq!(read.version_at_most, Some(ClusterVersion(2)));
    }

    #[test]
    fn tasks_of_a_fleet_get_a_network_of_their_own_unless_told_otherwise() {
        assert_eq!(settings().usual_network().unwrap(), NetworkMode::Private);
        let with = |network: &str| FleetSettings { jobs: Jobs { network: Some(network.to_owned()) }, ..settings() };
        assert_eq!(with("host").usual_network().unwrap(), NetworkMode::Host);
        assert!(with("hots").usual_network().unwrap_err().to_string().contains("jobs.network"));
    }

    #[test]
    fn how_often_one_may_call_can_be_changed_and_is_bounded_otherwise() {
        assert_eq!(settings().call_rate(), CallRate::STANDARD);
        let folder = tempfile::tempdir().unwrap();
        settings().write(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\n[calls]\nper_second = 0\n")).unwrap();
        assert_eq!(FleetSettings::read(folder.path()).unwrap().call_rate().per_second, 0);
    }

    #[test]
    fn times_that_contradict_each_other_are_refused() {
        let with = |suspect: &str, down: &str, lease: &str| {
            let text = |text: &str| Some(text.to_owned());
            let nodes = Nodes { suspect: text(suspect), down: text(down), lease: text(lease) };
            FleetSettings { nodes, ..settings() }.timing()
        };
        assert!(with("5s", "60s", "30s").is_ok());
        for (suspect, down, lease, field) in [
            ("1s", "60s", "30s", "suspect"),
            ("5s", "40s", "30s", "down"),
            ("5s", "60s", "3s", "lease"),
            ("70s", "60s", "30s", "down"),
        ] {
            let error = with(suspect, down, lease).unwrap_err().to_string();
            assert!(error.contains(&format!("nodes.{field}")), "{error}");
        }
    }
}
