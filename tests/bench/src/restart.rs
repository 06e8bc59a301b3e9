//! `restart`: a coordinator with a million finished and 100,000 pending tasks is killed and started again: how long until it serves.
//! Then a snapshot of that state is taken under load: how long no entry is applied.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flowyard_clock::{elapsed, monotonic};
use flowyard_proto::api::GetClusterRequest;
use flowyard_sdk::client::Client;

use crate::asked::Asked;
use crate::driving::{Submits, drive};
use crate::figures::{Times, millis, print_bound};
use crate::past::{self, Tasks};
use crate::processes::PATIENCE;
use crate::restored::Restored;

const SERVING_GOAL_MS: f64 = 3_000.0;
const STALL_GOAL_MS: f64 = 50.0;
/// A snapshot is taken after so many entries.
const SNAPSHOT_EVERY: u64 = 50_000;
const SUBMITTERS: usize = 4;
/// How long the clients submit before it is asked whether they go on.
const TURN: Duration = Duration::from_secs(5);

/// Measures, and prints.
pub(crate) async fn run(asked: &Asked, place: &Path) -> Result<(), String> {
    let (finished, pending) = if asked.quick { (100_000, 10_000) } else { (1_000_000, 100_000) };
    let begun = monotonic();
    let backup = place.join("past.backup");
    past::write(&backup, &Tasks { finished, pending, running: vec![] })?;
    let bytes = std::fs::metadata(&backup).map_or(0, |metadata| metadata.len());
    println!(
        "    {finished} finished, {pending} pending: made in {:.0} s, a backup of {} MiB",
        elapsed(begun).as_secs_f64(),
        bytes >> 20
    );
    let one = Restored::new(asked, place, &backup)?;
    let mut process = one.start()?;
    one.serving().await?;
    let times = if asked.quick { 2 } else { 5 };
    for (with, entries) in
        [("a snapshot alone", 0), ("a snapshot and 40,000 entries behind it", SNAPSHOT_EVERY * 4 / 5)]
    {
        one.submit_many(entries).await?;
        let mut each = Vec::new();
        for _ in 0..times {
            process.kill();
            let begun = monotonic();
            process = one.spawn()?;
            one.serving().await?;
            each.push(elapsed(begun));
        }
        let each = Times::new(each);
        println!("start to serving, {with}: {}", each.line());
        print_bound(&format!("start to serving, {with}, p50"), millis(each.at(500)), SERVING_GOAL_MS, "ms");
    }
    println!("    resident {} MiB", resident_mib(process.id()));
    one.stall().await?;
    // It would look after a million blobs first, which there never were.
    process.kill();
    Ok(())
}

impl Restored<'_> {
    /// How long no entry was applied while clients submit without pause: first without a snapshot, then while one is taken.
    async fn stall(&self) -> Result<(), String> {
        let without = self.gaps(|_| false).await?;
        println!("between two looks that saw new entries: {}", without.line());
        let left = SNAPSHOT_EVERY / 5;
        self.submit_many(left * 9 / 10).await?;
        let before = self.snapshot();
        // The snapshot is counted until it is the current one.
        let with = self.gaps(|at| at < PATIENCE && self.snapshot() == before).await?;
        if self.snapshot() == before {
            return Err("no snapshot was taken".to_owned());
        }
        println!("the same while a snapshot is taken:     {}", with.line());
        print_bound("longest without an entry applied, with a snapshot", millis(with.at(1_000)), STALL_GOAL_MS, "ms");
        Ok(())
    }

    /// The times between two looks at the revision that saw it change, while clients submit for as long as `goes_on` says.
    async fn gaps(&self, goes_on: impl Fn(Duration) -> bool) -> Result<Times, String> {
        let over = Arc::new(AtomicBool::new(false));
        let watching = tokio::spawn(watch_revision(self.client(), over.clone()));
        let start = monotonic();
        loop {
            let caller = |_| Submits::new(self.client(), &self.spec);
            drive((0..SUBMITTERS).map(caller).collect(), TURN).await?;
            if !goes_on(elapsed(start)) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        watching.await.map(Times::new).map_err(|error| error.to_string())
    }

    /// The name of the current snapshot.
    fn snapshot(&self) -> String {
        std::fs::read_to_string(self.folder().join("snapshots/current")).unwrap_or_default()
    }
}

/// Looks at the revision every millisecond: how long it stood still each time.
async fn watch_revision(mut client: Client, over: Arc<AtomicBool>) -> Vec<Duration> {
    let (mut gaps, mut last, mut since) = (Vec::new(), 0, monotonic());
    while !over.load(Ordering::Relaxed) {
        if let Ok(cluster) = client.get_cluster(GetClusterRequest {}).await
            && cluster.revision != last
        {
            if last != 0 {
                gaps.push(elapsed(since));
            }
            (last, since) = (cluster.revision, monotonic());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gaps
}

fn resident_mib(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() >> 10
}
