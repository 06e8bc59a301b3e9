//! Several clients at once, each a person's program on a host of its own: they submit, cancel, read and list through the real client
//! of the API, and write down what they were told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use flowyard_proto::api;
use flowyard_sdk::client::{Client, ClientError, Endpoint};

use crate::dice::Dice;
use crate::history::{Answer, Call, History, Phase, Seen};
use crate::jobs::{self, Shape};
use crate::proxy::enter;

/// How many there are.
pub(crate) const CLIENTS: usize = 4;
/// How long a call may take; longer than a client's own patience.
const CALL: Duration = Duration::from_secs(30);
/// Jobs that wait or run, above which no more are submitted for a while: the machine under the suite is small.
const BUSY: u64 = 60;
/// Rows of one list.
const ROWS: u32 = 100;

/// What all clients share.
struct Shared {
    history: Arc<History>,
    ends: AtomicBool,
    /// Jobs that were active in the last list.
    active: AtomicU64,
    /// The next key; keys are shared, so that the same is submitted by several.
    keys: AtomicU64,
    work: PathBuf,
    outside: PathBuf,
}

/// The clients, at work until they are stopped.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them in the network of `space`, with a person's token.
    pub(crate) fn start(space: &str, token: &str, seed: u64, work: &Path, outside: &Path) -> Result<Self, String> {
        let endpoint: Endpoint = token.parse().map_err(|error| format!("the token: {error}"))?;
        let shared = Arc::new(Shared {
            history: Arc::new(History::new()),
            ends: AtomicBool::new(false),
            active: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            work: work.to_owned(),
            outside: outside.to_owned(),
        });
        let start = |number: usize| {
            let (shared, endpoint, space) = (Arc::clone(&shared), endpoint.clone(), space.to_owned());
            std::thread::spawn(move || {
                enter(&space).expect("the clients' host is there");
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let dice = Dice::new(seed.wrapping_mul(1_000).wrapping_add(number as u64));
                // A client is made where its connections are to run.
                runtime.block_on(async {
                    One { number, shared, client: Client::new(endpoint), dice, made: 0 }.work().await
                });
            })
        };
        let threads = (0..CLIENTS).map(start).collect();
        Ok(Self { shared, threads })
    }

    /// Calls that were answered or given up so far.
    pub(crate) fn calls(&self) -> usize {
        self.shared.history.calls()
    }

    /// Lets each end what it does.
    pub(crate) fn stop(self) -> Result<Arc<History>, String> {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a client panicked".to_owned())?;
        }
        Ok(Arc::clone(&self.shared.history))
    }
}

/// One of them.
struct One {
    number: usize,
    shared: Arc<Shared>,
    client: Client,
    dice: Dice,
    /// Submissions without a key.
    made: u64,
}

impl One {
    async fn work(mut self) {
        while !self.shared.ends.load(Ordering::Relaxed) {
            match self.dice.roll(10) {
                0..4 if self.shared.active.load(Ordering::Relaxed) < BUSY => self.submit().await,
                0..5 => self.list().await,
                5 => self.cancel().await,
                _ => self.read().await,
            }
            tokio::time::sleep(Duration::from_millis(self.dice.within(50, 350))).await;
        }
    }

    /// Notes how a call ended. What is refused or fails as a fault of the cluster should not be: the wishes are good.
    fn note(&self, call: Call, from_us: u64, answer: Result<Answer, ClientError>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_unavailable() => Answer::Unknown,
            Err(ClientError::NotFound(_)) if matches!(call, Call::Read(_) | Call::Cancel(_)) => Answer::NotThere,
            Err(error) => {
                let at = from_us / 1_000;
                self.shared.history.refuse(format!("client {}, {call:?} at {at} ms: {error}", self.number));
                Answer::Unknown
            }
        };
        self.shared.history.note(self.number, call, from_us, answer);
    }

    async fn submit(&mut self) {
        let keyed = self.dice.roll(3) > 0;
        let tag = if keyed { self.key() } else { self.fresh() };
        let (spec, blobs) = match jobs::job(&tag, &self.shared.work, &self.shared.outside) {
            Ok(job) => job,
            Err(reason) => return self.shared.history.refuse(format!("{tag}: {reason}")),
        };
        let from_us = self.shared.history.now_us();
        let key = keyed.then(|| tag.clone());
        // What was uploaded may be lost with its coordinator before the job is taken; `submit_with` sends it again then.
        let send = async |client: &mut Client| client.submit_with(&spec, key.clone(), &blobs).await;
        // Without a key it may be said once only.
        let sent = async { if keyed { self.client.persist(send).await } else { send(&mut self.client).await } };
        let answer = within(sent).await.map(|(job, _)| Answer::Job(job.0));
        self.note(Call::Submit { tag, keyed }, from_us, answer);
    }

    /// A key that is new, or was used by anybody lately.
    fn key(&mut self) -> String {
        let newest = self.shared.keys.load(Ordering::Relaxed);
        let number = match self.dice.roll(3) {
            0 if newest > 0 => newest - 1 - self.dice.roll(newest.min(6)),
            _ => self.shared.keys.fetch_add(1, Ordering::Relaxed),
        };
        // Whoever uses it means the same by it.
        format!("{}-k{number}", Shape::draw(&mut Dice::new(number)).letter())
    }

    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("{}-{}-{}", Shape::draw(&mut self.dice).letter(), self.number, self.made)
    }

    /// A job that anybody was told of lately.
    fn lately(&mut self) -> Option<u64> {
        let back = self.dice.roll(20);
        self.shared.history.job(back as usize)
    }

    async fn cancel(&mut self) {
        let Some(job) = self.lately() else { return };
        let from_us = self.shared.history.now_us();
        let answer = within(self.client.cancel(api::CancelRequest { job })).await.map(|_| Answer::Done);
        self.note(Call::Cancel(job), from_us, answer);
    }

    async fn read(&mut self) {
        let Some(job) = self.lately() else { return };
        let from_us = self.shared.history.now_us();
        let answer = within(self.client.get_job(api::GetJobRequest { job })).await;
        let answer = answer.map(|shown| {
            let stopping = Some(shown.stopping);
            Answer::Seen(Seen { phase: shown.row.map_or(Phase::Active, |row| phase(row.state())), stopping })
        });
        self.note(Call::Read(job), from_us, answer);
    }

    async fn list(&mut self) {
        let from_us = self.shared.history.now_us();
        let request = api::ListJobsRequest { limit: ROWS, ..api::ListJobsRequest::default() };
        let answer = within(self.client.list_jobs(request)).await.map(|listed| {
            let row = |row: &api::JobRow| (row.job, Seen { phase: phase(row.state()), stopping: None });
            let rows: Vec<_> = listed.jobs.iter().map(row).collect();
            let active = rows.iter().filter(|(_, seen)| seen.phase == Phase::Active).count();
            self.shared.active.store(active as u64, Ordering::Relaxed);
            Answer::Listed(rows)
        });
        self.note(Call::List, from_us, answer);
    }
}

/// A call, or that nobody knows what became of it.
async fn within<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let late = || Err(ClientError::Unavailable(format!("no answer within {CALL:?}")));
    tokio::time::timeout(CALL, call).await.unwrap_or_else(|_| late())
}

pub(crate) fn phase(state: api::JobPhase) -> Phase {
    match state {
        api::JobPhase::Succeeded => Phase::Succeeded,
        api::JobPhase::Failed => Phase::Failed,
        api::JobPhase::Cancelled => Phase::Cancelled,
        api::JobPhase::Active | api::JobPhase::Unspecified => Phase::Active,
    }
}
