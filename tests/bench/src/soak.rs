//! `soak`: no election without a fault, while both cores and the disk have all the work they can take.
//!
//! Three coordinators at their defaults serve clients that submit jobs and cancel them, so that the state stays small, snapshots are
//! taken and the log is sealed and purged. Beside them burn processes of the lowest priority: one for each core, and two that write to
//! the same disk and sync every mebibyte. Every coordinator is asked each second who leads in which term.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flowyard_clock::{elapsed, monotonic};
use flowyard_model::JobId;
use flowyard_proto::api::CancelRequest;
use flowyard_sdk::client::{Client, fresh_key};

use crate::asked::Asked;
use crate::figures::{Times, millis};
use crate::fleet::{COORDINATORS, Fleet};
use crate::processes::Process;
use crate::work;

const CLIENTS: usize = 8;
const DISK_BURNERS: usize = 2;
const REPORT_EVERY_S: u64 = 60;
/// Between two jobs of a client, so that the soak of an hour stays within the disk.
const PAUSE: Duration = Duration::from_millis(20);

/// What the clients saw.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    unanswered: AtomicU64,
    slowest_us: AtomicU64,
}

/// Soaks, and prints the elections.
pub(crate) async fn run(asked: &Asked, place: &Path) -> Result<(), String> {
    let fleet = Fleet::form(&asked.program, &place.join("fleet")).await?;
    let leader = fleet.settle().await?;
    let burners = burners(place)?;
    let seen = Arc::new(Seen::default());
    let spec = work::small(&["/bin/true"])?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (client, spec, seen) = (fleet.client(&[number % COORDINATORS]), spec.clone(), seen.clone());
            tokio::spawn(async move { submit_and_cancel(client, spec, &seen).await })
        })
        .collect();
    let before = fleet.status(leader).await.ok_or("the leader does not answer")?;
    println!("{} minutes; coordinator c{leader} leads in term {}", asked.minutes, before.term);
    let watched = watch(&fleet, Duration::from_secs(asked.minutes * 60), before.term, &seen).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    drop(burners);
    println!("busy: {}", pressure());
    let elections = watched.term - before.term;
    println!("terms {} to {}: {elections} elections without a fault", before.term, watched.term);
    println!(
        "acknowledged {}, not answered {}",
        seen.acknowledged.load(Ordering::Relaxed),
        seen.unanswered.load(Ordering::Relaxed)
    );
    println!("asked a coordinator who leads: {}", Times::new(watched.answers).line());
    println!(
        "{:<44} {elections}  goal 0  {}",
        "elections without a fault",
        if elections == 0 { "reached" } else { "SHORT" }
    );
    fleet.stop();
    Ok(())
}

fn burners(place: &Path) -> Result<Vec<Process>, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kinds = std::iter::repeat_n("cpu", cores).chain(std::iter::repeat_n("disk", DISK_BURNERS));
    let start = |kind: &str| {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(&own).args(["burn", kind]).arg(place);
        Process::start(&mut command, &place.join("burners.log"))
    };
    kinds.map(start).collect()
}

/// One job after the other, each cancelled once it was taken.
async fn submit_and_cancel(mut client: Client, spec: flowyard_model::JobSpec, seen: &Seen) {
    loop {
        let begun = monotonic();
        let outcome = match client.submit(&spec, Some(fresh_key())).await {
            Ok((JobId(job), _)) => client.cancel(CancelRequest { job }).await.map(drop),
            Err(error) => Err(error),
        };
        let counter = if outcome.is_ok() { &seen.acknowledged } else { &seen.unanswered };
        counter.fetch_add(1, Ordering::Relaxed);
        seen.slowest_us.fetch_max(elapsed(begun).as_micros() as u64, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

struct Watched {
    /// The newest term.
    term: u64,
    /// How long each answer to the question who leads took.
    answers: Vec<Duration>,
}

/// Asks every second, and prints each change of the term as it is seen, and a line each minute.
async fn watch(fleet: &Fleet, how_long: Duration, term: u64, seen: &Seen) -> Watched {
    let (start, mut watched, mut minute) = (monotonic(), Watched { term, answers: Vec::new() }, 0);
    while elapsed(start) < how_long {
        for number in 0..COORDINATORS {
            let begun = monotonic();
            let Some(status) = fleet.status(number).await else {
                println!("{:>6.0} s: c{number} does not answer within a second", elapsed(start).as_secs_f64());
                continue;
            };
            watched.answers.push(elapsed(begun));
            if status.term > watched.term {
                let leader = fleet.leader_of(&status);
                println!(
                    "{:>6.0} s: term {} (leader {leader:?}), as c{number} says",
                    elapsed(start).as_secs_f64(),
                    status.term
                );
                watched.term = status.term;
            }
        }
        if elapsed(start).as_secs() / REPORT_EVERY_S > minute {
            minute += 1;
            let slowest = Duration::from_micros(seen.slowest_us.swap(0, Ordering::Relaxed));
            println!(
                "{minute:>4} min: term {}, acknowledged {}, slowest submit and cancel of the minute {:.0} ms; {}",
                watched.term,
                seen.acknowledged.load(Ordering::Relaxed),
                millis(slowest),
                pressure()
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    watched
}

/// What the machine did, as the kernel's pressure counters say it: shares of the last minute in which somebody waited.
fn pressure() -> String {
    let some = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/pressure/{what}")).unwrap_or_default();
        let share = text.split_whitespace().find_map(|word| word.strip_prefix("avg60=").map(str::to_owned));
        share.unwrap_or_else(|| "?".to_owned())
    };
    format!("waiting for cpu {} %, io {} %", some("cpu"), some("io"))
}
