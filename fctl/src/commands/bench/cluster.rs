//! The coordinators of a bench: three on loopback, each a process with a folder of its own, formed by the commands that an operator
//! types; or those of a cluster that is there already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flowyard_identity::{ApiToken, JoinToken};
use flowyard_model::{Queue, QueuePath, limits};
use flowyard_proto::cluster::{ClusterStatus, CreateTokenRequest, GetStatusRequest};
use flowyard_proto::peer::{self, Joiner, RoleKind, grant};
use flowyard_sdk::client::{Client, Endpoint};
use tokio::process::Command;

use super::process::{Process, Taken, free_address, ourselves, output_of};
use crate::failure::Failure;

const COORDINATORS: usize = 3;
/// How long a part of it may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// What a coordinator says once it serves.
const RUNS: &str = " runs; agents and people reach it";
/// Queues put in one call.
const QUEUES: usize = 1_000;
/// How long tokens last: longer than any bench.
const LIFE_MS: u64 = 24 * 3_600 * 1_000;

/// Three coordinators of our own.
#[derive(Debug)]
pub(super) struct Cluster {
    folder: PathBuf,
    api: Vec<String>,
    coordinators: Vec<Process>,
    /// One that is away on purpose.
    away: Option<usize>,
}

impl Cluster {
    /// One that is to be formed in the folder.
    pub(super) fn none(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), api: Vec::new(), coordinators: Vec::new(), away: None }
    }

    /// Forms it.
    pub(super) async fn form(&mut self) -> Result<(), Failure> {
        let places = self.places()?;
        self.run(&["coordinator", "init", "--cluster", "bench"], &places).await?;
        self.start().await?;
        for number in 1..COORDINATORS {
            let line = self.run(&["token", "create", "--role", "coordinator"], &[self.owner_flag()]).await?;
            let join: Vec<&str> = line.split_whitespace().skip(1).collect();
            let places = self.places()?;
            self.run(&join, &places).await?;
            self.start().await?;
            self.until_votes(number + 1).await?;
        }
        Ok(())
    }

    /// A client at the first coordinator's own socket.
    pub(super) fn owner(&self) -> Client {
        Client::new(Endpoint::socket(self.folder.join("c0/api.sock")))
    }

    /// What each coordinator takes.
    pub(super) fn taken(&self) -> Vec<Taken> {
        self.coordinators.iter().map(Process::taken).collect()
    }

    /// Why one of them is over, if one is.
    pub(super) fn fault(&mut self) -> Option<Failure> {
        let (folder, away) = (self.folder.clone(), self.away);
        let running = self.coordinators.iter_mut().enumerate().filter(|(number, _)| Some(*number) != away);
        running.map(|(_, coordinator)| coordinator).find_map(|coordinator| coordinator.fault(&folder))
    }

    /// Kills the coordinator that leads, as a power cut would; which it was.
    pub(super) async fn kill_leader(&mut self, client: &mut Client) -> Result<usize, Failure> {
        let status = settled(client, async |_| true).await?;
        let leads = status.members.iter().find(|member| member.leads).map(|member| member.api_address.as_str());
        let number = self.api.iter().position(|api| Some(api.as_str()) == leads);
        let number = number.ok_or_else(|| Failure::Internal("the leader is none of ours".to_owned()))?;
        self.away = Some(number);
        self.coordinators[number].kill().await;
        Ok(number)
    }

    /// Starts one again that was killed.
    pub(super) fn start_again(&mut self, number: usize) -> Result<(), Failure> {
        self.coordinators[number] = Process::start(self.command(number)?, &format!("c{number}"), &self.folder)?;
        self.away = None;
        Ok(())
    }

    /// Waits until all of them answer.
    pub(super) async fn whole(&self) -> Result<(), Failure> {
        let answer = |status: &ClusterStatus| status.members.iter().filter(|member| member.about.is_some()).count();
        settled(&mut self.owner(), async |status| answer(status) == COORDINATORS).await.map(drop)
    }

    /// Ends them.
    pub(super) async fn end(self) {
        self.coordinators.iter().for_each(Process::ask);
        for coordinator in self.coordinators {
            coordinator.end().await;
        }
    }

    fn owner_flag(&self) -> String {
        format!("--endpoint=unix://{}", self.folder.join("c0/api.sock").display())
    }

    async fn run(&self, words: &[&str], flags: &[String]) -> Result<String, Failure> {
        let mut command = ourselves(&self.folder, words)?;
        command.args(flags);
        output_of(command).await
    }

    /// The flags of the next coordinator, whose API's address is kept.
    fn places(&mut self) -> Result<Vec<String>, Failure> {
        let (api, peers) = (free_address()?, free_address()?);
        let folder = self.folder.join(format!("c{}", self.api.len())).display().to_string();
        self.api.push(api.clone());
        let flags = [("folder", folder), ("address", api.clone()), ("listen", api)];
        let others = [("peer-address", peers.clone()), ("peer-listen", peers)];
        Ok(flags.into_iter().chain(others).map(|(flag, value)| format!("--{flag}={value}")).collect())
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let number = self.coordinators.len();
        let mut process = Process::start(self.command(number)?, &format!("c{number}"), &self.folder)?;
        let said = process.says(RUNS, &self.folder, PATIENCE).await;
        self.coordinators.push(process);
        said
    }

    fn command(&self, number: usize) -> Result<Command, Failure> {
        let mut command = ourselves(&self.folder, &["coordinator", "run", "--folder"])?;
        command.arg(self.folder.join(format!("c{number}")));
        Ok(command)
    }

    async fn until_votes(&self, wanted: usize) -> Result<(), Failure> {
        let votes = |status: &ClusterStatus| status.members.iter().filter(|member| member.votes).count();
        settled(&mut self.owner(), async |status| votes(status) == wanted).await.map(drop)
    }
}

/// Waits until the cluster is as wished, with a leader.
async fn settled(client: &mut Client, wished: impl AsyncFn(&ClusterStatus) -> bool) -> Result<ClusterStatus, Failure> {
    let start = flowyard_clock::monotonic();
    loop {
        let asked = client.get_status(GetStatusRequest {}).await;
        match asked {
            Ok(status) if wished(&status).await && status.members.iter().any(|member| member.leads) => {
                return Ok(status);
            }
            Err(error)
                if !error.is_unavailable()
                    && !matches!(error, flowyard_sdk::client::ClientError::Unreachable { .. }) =>
            {
                return Err(error.into());
            }
            _ if flowyard_clock::elapsed(start) > PATIENCE => {
                return Err(Failure::Home("the coordinators do not settle".to_owned()));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The term of whoever leads: each election is one more.
pub(super) async fn term(client: &mut Client) -> Result<u64, Failure> {
    Ok(settled(client, async |_| true).await?.term)
}

/// Puts a queue, once the cluster takes what it says: a new one learns within seconds that all its members are new.
pub(super) async fn until_put(client: &mut Client, queue: &Queue) -> Result<(), Failure> {
    let start = flowyard_clock::monotonic();
    loop {
        let refused = match client.put_queues(std::slice::from_ref(queue)).await {
            Ok(put) => match put.refused {
                None => return Ok(()),
                Some((path, error)) => Failure::Home(format!("queue {path}: {error}")),
            },
            Err(error) if error.is_unavailable() => error.into(),
            Err(error) => return Err(error.into()),
        };
        if flowyard_clock::elapsed(start) > PATIENCE {
            return Err(refused);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How often each coordinator has waited for the disk until what it wrote to its log was there, by its address; once all of them answer.
pub(super) async fn fsyncs(client: &mut Client) -> Result<BTreeMap<String, u64>, Failure> {
    let all_answer = |status: &ClusterStatus| status.members.iter().all(|member| member.about.is_some());
    let members = settled(client, async |status| all_answer(status)).await?.members;
    let counted = members.into_iter().map(|it| (it.api_address, it.about.map_or(0, |about| about.log_fsyncs)));
    Ok(counted.collect())
}

/// The addresses of all coordinators, the one that leads first.
pub(super) async fn addresses(client: &mut Client) -> Result<Vec<String>, Failure> {
    let mut members = settled(client, async |_| true).await?.members;
    members.sort_by_key(|member| !member.leads);
    Ok(members.into_iter().map(|member| member.api_address).collect())
}

/// Lets in whom a bench needs.
pub(super) struct Door<'a> {
    /// Of somebody who may.
    pub client: Client,
    /// Where those who are let in find the coordinators.
    pub addresses: Vec<String>,
    /// The tokens that were made.
    pub made: &'a mut Vec<u64>,
}

impl Door<'_> {
    async fn token(&mut self, kind: grant::Kind, uses: Option<u32>) -> Result<String, Failure> {
        let grant = Some(peer::Grant { kind: Some(kind) });
        let made = self.client.create_token(CreateTokenRequest { grant, life_ms: LIFE_MS, uses }).await?;
        self.made.push(made.token);
        Ok(made.text)
    }

    /// Tokens that let so many agents in, each with how many.
    pub(super) async fn agents(&mut self, nodes: u32) -> Result<Vec<(String, u32)>, Failure> {
        let (mut tokens, mut left) = (Vec::new(), nodes);
        while left > 0 {
            let uses = left.min(limits::TOKEN_USES);
            let text = self.token(grant::Kind::Join(Joiner::Agent.into()), Some(uses)).await?;
            let token: JoinToken = text.parse().map_err(|error| Failure::Internal(format!("the token: {error}")))?;
            let token = JoinToken { addresses: self.addresses.clone(), ..token };
            tokens.push((token.to_text().to_string(), uses));
            left -= uses;
        }
        Ok(tokens)
    }

    /// Makes queues of equal weight without bounds.
    pub(super) async fn queues(&mut self, paths: BTreeSet<QueuePath>) -> Result<(), Failure> {
        let queues: Vec<_> = paths.into_iter().filter(|path| *path != QueuePath::fallback()).map(Queue::new).collect();
        for some in queues.chunks(QUEUES) {
            if let Some((path, error)) = self.client.put_queues(some).await?.refused {
                return Err(Failure::Home(format!("queue {path}: {error}")));
            }
        }
        Ok(())
    }

    /// A client of somebody who submits.
    pub(super) async fn person(&mut self, name: &str) -> Result<Client, Failure> {
        let role = Some(peer::Role { kind: RoleKind::Operator.into(), queues: vec![] });
        let text = self.token(grant::Kind::Api(peer::ApiGrant { principal: name.to_owned(), role }), None).await?;
        let token: ApiToken = text.parse().map_err(|error| Failure::Internal(format!("the token: {error}")))?;
        Ok(Client::new(Endpoint::fleet(ApiToken { addresses: self.addresses.clone(), ..token })))
    }
}
