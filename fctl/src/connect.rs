//! Finding a cluster: the endpoint given, the embedded cluster asked for, or whichever runs; otherwise both ways to get one.

use std::path::Path;
use std::time::{Duration, Instant};

use flowyard_sdk::client::{Client, ClientError, Endpoint, Patience};

use crate::cli::Global;
use crate::cli::fleet::COORDINATOR_FOLDER;
use crate::commands::token_file;
use crate::embedded::{Embedded, LocalAgent, Parts};
use crate::failure::Failure;
use crate::home::{GuestLock, Home};
use crate::settings::{Settings, configured_endpoint};

/// How long another process that holds the home may take to serve it, or to leave it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// A client, and what keeps its cluster alive.
pub(crate) struct Connection {
    /// Asks the cluster.
    pub client: Client,
    /// The cluster, if this process runs it.
    embedded: Option<Embedded>,
    /// The agent, if only that is run by this process: whoever runs the coordinator only reads.
    agent: Option<LocalAgent>,
    guest: Option<GuestLock>,
    /// How to get it back when whoever runs it leaves.
    local: Option<(Home, Parts)>,
    /// Whether somebody is known to serve it, so that it is worth while to wait for the next who does.
    known: bool,
    /// When a fleet was found silent last, and how long it is still waited for.
    silent: Option<(Instant, Patience)>,
}

/// Silence after this long is another one.
const ANOTHER: Duration = Duration::from_secs(20);

impl Connection {
    /// Connects as the flags say.
    ///
    /// # Errors
    /// When there is no cluster, or its home cannot be used.
    pub(crate) async fn open(global: &Global, parts: Parts) -> Result<Self, Failure> {
        if global.local {
            return Self::local(&Home::find()?, parts).await;
        }
        let endpoint = match &global.endpoint {
            Some(text) => Some((text.clone(), "--endpoint or FLOWYARD_ENDPOINT".to_owned())),
            None => configured_endpoint()?.map(|(text, path)| (text, path.display().to_string())),
        };
        let endpoint = match endpoint {
            None => kept_token()?,
            named => named,
        };
        if let Some((text, origin)) = endpoint {
            let endpoint: Endpoint = text.parse().map_err(|error| Failure::Usage(format!("{origin}: {error}")))?;
            return Ok(Self::to(Client::new(endpoint)));
        }
        let home = Home::find()?;
        let coordinator = Path::new(COORDINATOR_FOLDER).join("api.sock");
        match home.is_hosted() {
            true => Ok(Self { known: true, ..Self::to(Client::new(Endpoint::socket(home.socket()))) }),
            // Only whom the coordinator runs as may even see it.
            false if coordinator.exists() => Ok(Self::to(Client::new(Endpoint::socket(coordinator)))),
            false => Err(no_cluster()),
        }
    }

    fn to(client: Client) -> Self {
        Self { client, embedded: None, agent: None, guest: None, local: None, known: false, silent: None }
    }

    /// Runs the cluster of this home, or joins whoever does.
    async fn local(home: &Home, parts: Parts) -> Result<Self, Failure> {
        if parts == Parts::Coordinator && !home.exists() {
            return Err(Failure::NoCluster(format!(
                "nothing was ever run in {}; `fctl submit --local FLOW` begins there",
                home.path().display()
            )));
        }
        home.prepare()?;
        let settings = Settings::of(home)?;
        let endpoint = Endpoint::socket(home.socket());
        let start = flowyard_clock::monotonic();
        loop {
            if let Some(lock) = home.host()? {
                let embedded = Embedded::start(home, lock, parts, &settings).await?;
                let client = Client::new(endpoint);
                let local = Some((home.clone(), parts));
                return Ok(Self {
                    client,
                    embedded: Some(embedded),
                    agent: None,
                    guest: None,
                    local,
                    known: true,
                    silent: None,
                });
            }
            let guest = home.guest()?;
            let mut client = Client::new(endpoint.clone());
            if client.get_cluster(Default::default()).await.is_ok() {
                let agent = match parts {
                    Parts::All => LocalAgent::start(home, &settings).await?,
                    Parts::Coordinator => None,
                };
                let local = Some((home.clone(), parts));
                return Ok(Self {
                    client,
                    embedded: None,
                    agent,
                    guest: Some(guest),
                    local,
                    known: true,
                    silent: None,
                });
            }
            drop(guest);
            if flowyard_clock::elapsed(start) > PATIENCE {
                let pid = home.host_pid().map_or_else(String::new, |pid| format!(" (pid {pid})"));
                return Err(Failure::Home(format!(
                    "{} is in use by another process{pid} that does not answer; end it, or set FLOWYARD_HOME to another folder",
                    home.path().display()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether this process, or another, runs an embedded cluster for us.
    pub(crate) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// After the cluster went away: takes it over, or finds whoever did; of a fleet, another coordinator. `false` if it is none of
    /// ours, or does not come back.
    ///
    /// # Errors
    /// When the home cannot be used.
    pub(crate) async fn reopen(&mut self) -> Result<bool, Failure> {
        if self.client.endpoint().is_fleet() {
            return Ok(self.another_leads().await);
        }
        let (Some((home, parts)), true) = (self.local.clone(), self.embedded.is_none()) else { return Ok(false) };
        if let Some(agent) = self.agent.take() {
            agent.stop(true).await;
        }
        let again = Box::pin(Self::local(&home, parts)).await?;
        *self = again;
        Ok(true)
    }

    /// Gives a fleet some time to elect another leader; its connection comes back by itself. `false` once that took too long.
    async fn another_leads(&mut self) -> bool {
        let (at, patience) = self.silent.get_or_insert_with(|| (flowyard_clock::monotonic(), Patience::for_takeover()));
        if flowyard_clock::elapsed(*at) > ANOTHER {
            *patience = Patience::for_takeover();
        }
        *at = flowyard_clock::monotonic();
        match patience.next_wait() {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                true
            }
            None => false,
        }
    }

    /// Asks, and again while the cluster is taken over. Who never answered is not waited for.
    ///
    /// # Errors
    /// The last answer, or that the home cannot be used.
    pub(crate) async fn persist<T>(
        &mut self,
        mut ask: impl AsyncFnMut(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let mut patience = Patience::for_takeover();
        loop {
            let error = match ask(&mut self.client).await {
                Err(error) if error.is_unavailable() => error,
                answer => {
                    self.known = true;
                    return Ok(answer?);
                }
            };
            let nobody = matches!(error, ClientError::Unreachable { .. });
            let wait = patience.after(&error).filter(|_| self.known || !nobody);
            let Some(wait) = wait else { return Err(error.into()) };
            tracing::debug!(%error, "the cluster is asked again");
            self.reopen().await?;
            tokio::time::sleep(wait).await;
        }
    }

    /// Ends what this process runs.
    pub(crate) async fn close(mut self) {
        drop(self.guest.take());
        if let (Some(agent), Some((home, _))) = (self.agent.take(), &self.local) {
            agent.stop(home.has_guests()).await;
        }
        if let Some(embedded) = self.embedded {
            embedded.shutdown().await;
        }
    }
}

/// The token that `fctl login` keeps.
fn kept_token() -> Result<Option<(String, String)>, Failure> {
    let Some(path) = token_file() else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((text, path.display().to_string()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Failure::Local { path: path.display().to_string(), source }),
    }
}

fn no_cluster() -> Failure {
    Failure::NoCluster(
        "no cluster was named, and none runs on this machine; either\n  \
         add --local to run here, now:     fctl submit --local flow.toml\n  \
         or keep a cluster up:             fctl dev\n  \
         or use one of other machines:     fctl login (with the token that its administrator gave you)\n  \
         or be a coordinator's own user:   sudo fctl ... on its host, for what its administrator does\n  \
         or name one:                      --endpoint unix:///path/to/api.sock (or FLOWYARD_ENDPOINT)"
            .to_owned(),
    )
}
