//! `fctl coordinator`: making this host a coordinator, and running it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use flowyard_cas::Origin;
use flowyard_coordinator::fleet::{Joining, MemberAddress, form, join};
use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_coordinator::raft::{Identity, Role};
use flowyard_coordinator::{Config, Coordinator, serve};
use flowyard_identity::JoinToken;
use flowyard_sdk::shown::chain;
use flowyard_telemetry::logs;
use serde_json::json;
use tokio::sync::oneshot;

use super::Outcome;
use super::token::read_token;
use crate::cli::fleet::{self, CoordinatorInit, CoordinatorJoin, CoordinatorPlace, CoordinatorRun};
use crate::failure::Failure;
use crate::fleet_settings::FleetSettings;
use crate::metrics_settings::Place;
use crate::signals::Stops;
use crate::{output, supervised, traced};

/// Port of the API, if none is named; the peers' port is the next.
const API_PORT: u16 = 7400;
/// How long handing the leadership over may take before the coordinator stops all the same.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How long open calls may take to end.
const STOP: Duration = Duration::from_secs(2);

pub(super) async fn run(command: fleet::Coordinator) -> Outcome {
    match command {
        fleet::Coordinator::Init(init) => self::init(&init).await,
        fleet::Coordinator::Join(join) => self::enter(&join).await,
        fleet::Coordinator::Run(run) => serve_folder(&run).await,
        fleet::Coordinator::Restore(restore) => super::restore::restore(&restore).await,
        fleet::Coordinator::Recover(recover) => super::restore::recover(&recover).await,
    }
}

/// Where a coordinator is reached, and where it listens for that.
pub(super) struct Reached {
    pub address: MemberAddress,
    pub listen: [SocketAddr; 2],
}

impl CoordinatorPlace {
    pub(super) fn reached(&self) -> Result<Reached, Failure> {
        let api = match &self.address {
            Some(address) => address.clone(),
            None => format!("{}:{API_PORT}", host_name()?),
        };
        let port = |address: &str| {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.ok_or_else(|| Failure::Usage(format!("--address: `{address}` is not an address; write HOST:PORT")))
        };
        // What was given is judged before anything is made of it.
        MemberAddress::new(&api, &api).map_err(|error| Failure::Usage(format!("--address: {error}")))?;
        let peers = match &self.peer_address {
            Some(address) => address.clone(),
            None => {
                let host = api.rsplit_once(':').map_or(api.as_str(), |(host, _)| host);
                let next = port(&api)?.checked_add(1);
                let next =
                    next.ok_or_else(|| Failure::Usage("--peer-address: there is no port after 65535".to_owned()))?;
                format!("{host}:{next}")
            }
        };
        let address =
            MemberAddress::new(&api, &peers).map_err(|error| Failure::Usage(format!("--peer-address: {error}")))?;
        if api == peers {
            let two = "a coordinator has two ports: one for agents and people, and one for other coordinators";
            return Err(Failure::Usage(format!("--peer-address: {peers} is --address too; {two}")));
        }
        let listen = [
            self.listen.unwrap_or(every_interface(&api, port(&api)?)),
            self.peer_listen.unwrap_or(every_interface(&peers, port(&peers)?)),
        ];
        Ok(Reached { address, listen })
    }
}

/// Every interface of this host: also those of IPv6 where it is reached by such an address.
fn every_interface(address: &str, port: u16) -> SocketAddr {
    match address.starts_with('[') {
        true => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        false => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    }
}

/// The name of this host, as others are expected to know it.
pub(super) fn host_name() -> Result<String, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match name.is_empty() || name == "localhost" || name == "(none)" {
        true => Err(Failure::Usage("this host has no name that others could know it by; give --address".to_owned())),
        false => Ok(name),
    }
}

async fn init(init: &CoordinatorInit) -> Outcome {
    let (folder, reached) = (&init.place.folder, init.place.reached()?);
    prepare(folder)?;
    let formed = form(folder, &reached.address, EngineKind::default()).await;
    let identity = formed.map_err(|error| Failure::Home(chain(&error)))?;
    let settings = FleetSettings::made(init.cluster.as_str(), identity, &reached.address, reached.listen);
    made(&init.place, settings, &identity)?;
    if !output::is_json() {
        output::line(format!("cluster {} is formed; this host is its coordinator {}", init.cluster, identity.replica));
        output::note(format!(
            "run it:            fctl coordinator run{of}\n\
             then, here, for each other host:\n\
             \u{20} coordinator:     fctl token create --role coordinator{at}\n\
             \u{20} node:            fctl token create --role agent{at}\n\
             \u{20} person:          fctl token create --role operator --name NAME{at}",
            of = folder_flag(folder),
            at = endpoint_flag(folder),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn enter(entering: &CoordinatorJoin) -> Outcome {
    let (folder, reached) = (&entering.place.folder, entering.place.reached()?);
    let token: JoinToken =
        read_token(&entering.token)?.parse().map_err(|error| Failure::Usage(format!("the token: {error}")))?;
    prepare(folder)?;
    let joined = join(folder, &Joining { token, address: reached.address.clone() }).await;
    let joined = joined.map_err(|error| Failure::Home(chain(&error)))?;
    let settings = FleetSettings::made(&joined.name, joined.identity, &reached.address, reached.listen);
    made(&entering.place, settings.learning(entering.learner), &joined.identity)?;
    if !output::is_json() {
        output::line(format!("this host is coordinator {} of cluster {}", joined.identity.replica, joined.name));
        let votes = if entering.learner {
            "it only learns, until `fctl cluster promote`"
        } else {
            "it votes once it has caught up"
        };
        output::note(format!("run it:  fctl coordinator run{}\n{votes}", folder_flag(folder)));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn prepare(folder: &Path) -> Result<(), Failure> {
    flowyard_cas::make_folder(folder).map_err(Failure::local(folder.display()))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder, private).map_err(Failure::local(folder.display()))
}

fn made(place: &CoordinatorPlace, mut settings: FleetSettings, identity: &Identity) -> Result<(), Failure> {
    settings.shared_origin.clone_from(&place.shared_origin);
    settings.write(&place.folder)?;
    if output::is_json() {
        output::json(&json!({
            "cluster": settings.name, "id": identity.cluster.to_string(), "coordinator": identity.replica,
            "folder": place.folder,
        }));
    }
    Ok(())
}

pub(super) fn folder_flag(folder: &Path) -> String {
    match folder == Path::new(fleet::COORDINATOR_FOLDER) {
        true => String::new(),
        false => format!(" --folder {}", folder.display()),
    }
}

/// How the coordinator's own socket is named, unless it is found by itself.
fn endpoint_flag(folder: &Path) -> String {
    match folder == Path::new(fleet::COORDINATOR_FOLDER) {
        true => String::new(),
        false => format!(" --endpoint unix://{}", folder.join("api.sock").display()),
    }
}

/// As many descriptors as this process may have: what the ports allow is more than what a process begins with.
fn raise_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it cannot be raised, fewer connections are accepted at a time.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

fn config(settings: &FleetSettings, folder: &Path) -> Result<Config, Failure> {
    Ok(Config {
        folder: folder.to_owned(),
        socket: folder.join("api.sock"),
        engine: EngineKind::default(),
        embedded: false,
        usual_network: settings.usual_network()?,
        home: folder.to_owned(),
        timing: settings.timing()?,
        stuck: settings.stuck()?,
        retention: settings.keeping()?.retention,
        log_keeping: settings.keeping()?.log,
        storage_budget_bytes: settings.storage_budget_bytes()?,
        call_rate: settings.call_rate(),
        shared_origin: settings.shared_origin.is_some(),
        fleet: Some(settings.fleet()?),
    })
}

async fn serve_folder(run: &CoordinatorRun) -> Outcome {
    raise_descriptors();
    let folder = run.folder.as_path();
    let settings = FleetSettings::read(folder)?;
    let exporter = traced::exporter(run.otlp.as_deref(), "flowyard-coordinator")?;
    let place = Place::take(settings.metrics(run.metrics)?).await?;
    let path = settings.shared_origin.clone().unwrap_or_else(|| folder.join("origin"));
    let origin = Origin::in_directory(&path, true).map_err(|error| Failure::Home(chain(&error)))?;
    let config = config(&settings, folder)?;
    logs::identify("part", "coordinator");
    logs::identify("name", settings.fleet()?.identity.replica);
    let mut stops = Stops::hear()?;
    let coordinator =
        Coordinator::start_traced(config, origin, exporter).await.map_err(|error| Failure::Home(chain(&error)))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let served = serve(coordinator.shared().clone(), async move {
        // Told, or with who would tell gone: it ends either way.
        let _ = stopped.await;
    });
    let mut server = match served {
        Ok(served) => tokio::spawn(served),
        Err(error) => {
            coordinator.shutdown().await;
            return Err(Failure::Home(chain(&error)));
        }
    };
    said_up(&settings, folder)?;
    let _metrics = place.serve(vec![coordinator.metrics()]);
    let _watched =
        supervised::ready(&format!("coordinator {} of cluster {}", settings.fleet()?.identity.replica, settings.name));
    let replica = coordinator.shared().replica.clone();
    let mut role = replica.role();
    let fault = tokio::select! {
        _ = stops.next() => None,
        ended = &mut server => Some(match ended {
            Ok(Ok(())) => "the server ended by itself".to_owned(),
            Ok(Err(error)) => chain(&error),
            Err(panic) => panic.to_string(),
        }),
        stopped = role.wait_for(|role| matches!(role, Role::Stopped { .. })) => Some(match stopped.as_deref() {
            Ok(Role::Stopped { fault: Some(fault) }) => fault.to_string(),
            _ => "the replica has stopped".to_owned(),
        }),
    };
    if fault.is_none() {
        output::note("stopping");
        supervised::stopping();
        // Whoever leads next does so at once, instead of after an election's wait. Alone, or without one who is fit, it just stops.
        let _ = tokio::time::timeout(HAND_OVER, replica.step_down()).await;
    }
    drop(stop);
    if !server.is_finished() && tokio::time::timeout(STOP, &mut server).await.is_err() {
        server.abort();
    }
    coordinator.shutdown().await;
    match fault {
        None => Ok(ExitCode::SUCCESS),
        Some(fault) => Err(Failure::Home(format!("the coordinator stopped: {fault}"))),
    }
}

fn said_up(settings: &FleetSettings, folder: &Path) -> Result<(), Failure> {
    let fleet = settings.fleet()?;
    if output::is_json() {
        output::json(&json!({
            "cluster": fleet.name, "coordinator": fleet.identity.replica, "address": fleet.address.api,
            "peer_address": fleet.address.peers, "endpoint": format!("unix://{}", folder.join("api.sock").display()),
        }));
    } else {
        output::note(format!(
            "coordinator {} of cluster {} runs; agents and people reach it at {}, coordinators at {}",
            fleet.identity.replica, fleet.name, fleet.address.api, fleet.address.peers
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str) -> CoordinatorPlace {
        CoordinatorPlace {
            folder: "/f".into(),
            address: Some(address.to_owned()),
            peer_address: None,
            listen: None,
            peer_listen: None,
            shared_origin: None,
        }
    }

    #[test]
    fn a_coordinator_listens_where_it_says_it_is_reached() {
        let reached = place("c1:7400").reached().unwrap();
        assert_eq!((reached.address.api.as_str(), reached.address.peers.as_str()), ("c1:7400", "c1:7401"));
        assert_eq!(reached.listen.map(|listen| listen.to_string()), ["0.0.0.0:7400", "0.0.0.0:7401"]);
        let reached = place("[fd00::1]:7400").reached().unwrap();
        assert_eq!(reached.address.peers, "[fd00::1]:7401");
        assert_eq!(reached.listen.map(|listen| listen.to_string()), ["[::]:7400", "[::]:7401"]);
        for wrong in ["fd00::1", "fd00::1:7400", "c1", "c1:", ":7400", "c1:70000", "[fd00::1]", "c1:65535"] {
            let refused = place(wrong).reached().err().map(|error| error.to_string());
            assert!(refused.is_some_and(|told| told.contains("address")), "{wrong}");
        }
    }
}
