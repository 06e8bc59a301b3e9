//! `submit`: durable submits per second, beside etcd's puts of the same size in the same run.
//!
//! Both clusters stand on the same disk the whole time; they are measured by turns, and the one that waits does nothing.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use flowyard_model::JobSpec;
use flowyard_sdk::client::Client;

use crate::asked::Asked;
use crate::driving::{Caller, Driven, Submits, drive};
use crate::etcd::Etcd;
use crate::etcd_client::EtcdClient;
use crate::figures::{median, print_ratio};
use crate::fleet::Fleet;
use crate::work;

const CLIENTS: [usize; 3] = [1, 16, 256];
const BATCH: usize = 100;
/// Batches are sent by so many clients.
const BATCH_CLIENTS: usize = 4;

struct Batches {
    client: Client,
    spec: JobSpec,
}

impl Caller for Batches {
    async fn call(&mut self) -> Result<u64, String> {
        let jobs = std::iter::repeat_n((self.spec.clone(), None), BATCH);
        let answers = self.client.submit_batch(jobs).await.map_err(|error| error.to_string())?;
        let taken = answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        Ok(taken.len() as u64)
    }
}

struct Puts {
    client: EtcdClient,
    value: Bytes,
    name: String,
    next: u64,
}

impl Caller for Puts {
    async fn call(&mut self) -> Result<u64, String> {
        self.next += 1;
        let key = Bytes::from(format!("{}/{}", self.name, self.next));
        self.client.put(key, self.value.clone()).await.map(|()| 1).map_err(|status| status.message().to_owned())
    }
}

/// Both clusters, and what is sent to them.
struct Pair {
    fleet: Fleet,
    etcd: Etcd,
    spec: JobSpec,
    value: Bytes,
    turn: Duration,
    turns: u64,
}

/// Measures, and prints ratios.
pub(crate) async fn run(asked: &Asked, place: &Path) -> Result<(), String> {
    let spec = work::small(&["/bin/true"])?;
    let value = Bytes::from(flowyard_proto::encode_spec(&spec).map_err(|error| error.to_string())?);
    let etcd = Etcd::form(&place.join("etcd")).await?;
    let fleet = Fleet::form(&asked.program, &place.join("fleet")).await?;
    let (turn, rounds) = if asked.quick { (Duration::from_secs(2), 1) } else { (Duration::from_secs(5), 5) };
    println!("payload {} bytes; {rounds} rounds by turns of {turn:?}; medians", value.len());
    let mut pair = Pair { fleet, etcd, spec, value, turn, turns: 0 };
    let mut best = 0.0;
    for clients in CLIENTS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            theirs.push(pair.puts(clients).await?);
            ours.push(pair.submits(clients).await?);
        }
        let rate = say(&format!("submits per second, {clients} clients"), &ours, &theirs, 1.0);
        best = rate.max(best);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(pair.puts(CLIENTS[1]).await?);
        ours.push(pair.batches().await?);
    }
    say(&format!("jobs per second, {BATCH_CLIENTS} clients x batches of {BATCH}"), &ours, &theirs, 5.0);
    print_ratio("the same beside etcd's best of all above", rate(&ours), best, 5.0);
    pair.fleet.stop();
    Ok(())
}

impl Pair {
    async fn puts(&mut self, clients: usize) -> Result<Driven, String> {
        let leader = self.etcd.settle().await?;
        self.turns += 1;
        let caller = |number| Puts {
            client: self.etcd.client(leader),
            value: self.value.clone(),
            name: format!("{}/{number}", self.turns),
            next: 0,
        };
        drive((0..clients).map(caller).collect(), self.turn).await
    }

    async fn submits(&mut self, clients: usize) -> Result<Driven, String> {
        let leader = self.fleet.settle().await?;
        let caller = |_| Submits::new(self.fleet.client(&[leader]), &self.spec);
        drive((0..clients).map(caller).collect(), self.turn).await
    }

    async fn batches(&mut self) -> Result<Driven, String> {
        let leader = self.fleet.settle().await?;
        let caller = |_| Batches { client: self.fleet.client(&[leader]), spec: self.spec.clone() };
        drive((0..BATCH_CLIENTS).map(caller).collect(), self.turn).await
    }
}

fn rate(driven: &[Driven]) -> f64 {
    median(driven.iter().map(Driven::per_second).collect())
}

/// Prints the ratio, and how long single calls took; etcd's rate.
fn say(name: &str, ours: &[Driven], theirs: &[Driven], goal: f64) -> f64 {
    print_ratio(name, rate(ours), rate(theirs), goal);
    for (whose, driven) in [("ours", ours), ("etcd's", theirs)] {
        let rates: Vec<String> = driven.iter().map(|turn| format!("{:.0}", turn.per_second())).collect();
        let last = driven.last().map(|turn| turn.times.line()).unwrap_or_default();
        println!("    {whose:<7} {last}  by turns {}", rates.join(" "));
    }
    rate(theirs)
}
