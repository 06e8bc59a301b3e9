//! `cancel`: a job of 100,000 tasks is cancelled while others submit: how long their submits take, beside the same clients when nothing
//! else happens.
//!
//! Once with tasks that all wait, at three coordinators; and once with tasks that all run, each with its own record, which is the
//! most that a cancel can have to do. For that a coordinator is restored from a backup with such jobs; their node is silent.

use std::path::Path;
use std::time::Duration;

use flowyard_clock::{elapsed, monotonic};
use flowyard_model::{JobId, JobSpec};
use flowyard_proto::api::CancelRequest;
use flowyard_sdk::client::Client;

use crate::asked::Asked;
use crate::driving::{Submits, drive};
use crate::figures::{Times, millis, print_bound};
use crate::fleet::Fleet;
use crate::past::{self, Tasks};
use crate::restored::Restored;
use crate::work;

const TASKS: u32 = 100_000;
/// So few that they hardly wait for each other.
const CLIENTS: usize = 2;
/// How long the clients are watched alone.
const ALONE: Duration = Duration::from_secs(2);
/// How long beside a cancel: so short that whoever waits for it is more than one in a hundred.
const BESIDE: Duration = Duration::from_millis(250);
/// The cancel comes so long after the clients begin.
const AFTER: Duration = Duration::from_millis(20);

/// Measures, and prints.
pub(crate) async fn run(asked: &Asked, place: &Path) -> Result<(), String> {
    waiting(asked, &place.join("fleet")).await?;
    running(asked, &place.join("restored")).await
}

async fn waiting(asked: &Asked, place: &Path) -> Result<(), String> {
    let fleet = Fleet::form(&asked.program, place).await?;
    let (leader, spec) = (fleet.settle().await?, work::small(&["/bin/true"])?);
    let client = || fleet.client(&[leader]);
    let mut jobs = Vec::new();
    for _ in 0..rounds(asked) {
        let submitted = client().submit(&work::array(&["/bin/true"], TASKS)?, None).await;
        jobs.push(submitted.map_err(|error| error.to_string())?.0);
    }
    compare("that all wait", client, &spec, jobs).await?;
    fleet.stop();
    Ok(())
}

async fn running(asked: &Asked, place: &Path) -> Result<(), String> {
    std::fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let backup = place.join("past.backup");
    let jobs = past::write(&backup, &Tasks { finished: 0, pending: 0, running: vec![TASKS; rounds(asked)] })?;
    let one = Restored::new(asked, place, &backup)?;
    let process = one.start()?;
    one.serving().await?;
    compare("that all run", || one.client(), &one.spec, jobs).await?;
    process.kill();
    Ok(())
}

fn rounds(asked: &Asked) -> usize {
    if asked.quick { 2 } else { 8 }
}

/// Cancels one job after the other beside clients, who are watched alone before each.
async fn compare(which: &str, client: impl Fn() -> Client, spec: &JobSpec, jobs: Vec<JobId>) -> Result<(), String> {
    let submits = async |how_long| -> Result<Times, String> {
        let callers = (0..CLIENTS).map(|_| Submits::new(client(), spec)).collect();
        Ok(drive(callers, how_long).await?.times)
    };
    let (mut idle, mut beside, mut cancels) = (Vec::new(), Vec::new(), Vec::new());
    for job in jobs {
        idle.push(submits(ALONE).await?);
        let (during, took) = tokio::join!(submits(BESIDE), cancel(client(), job));
        beside.push(during?);
        cancels.push(took?);
    }
    let (idle, beside) = (Times::of_all(idle), Times::of_all(beside));
    println!("{TASKS} tasks {which}");
    println!("  submits when nothing else happens   {}", idle.line());
    println!("  submits while the job is cancelled  {}", beside.line());
    println!("  the cancel itself                   {}", Times::new(cancels).line());
    print_bound("  p99 beside a cancel, over p99 alone", millis(beside.at(990)) / millis(idle.at(990)), 2.0, "x");
    Ok(())
}

/// While the others are watched.
async fn cancel(mut client: Client, JobId(job): JobId) -> Result<Duration, String> {
    tokio::time::sleep(AFTER).await;
    let begun = monotonic();
    client.cancel(CancelRequest { job }).await.map_err(|error| error.to_string())?;
    Ok(elapsed(begun))
}
