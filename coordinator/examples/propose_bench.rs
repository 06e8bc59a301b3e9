//! How many durable proposals a lone replica takes, beside the disk's own floor.
//!
//! `cargo run --release -p flowyard-coordinator --example propose_bench [FOLDER]`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_coordinator::raft::{Machine, Replica, ReplicaConfig};

/// Long enough to see past the noise of a shared disk, short enough to run often.
const RUN: Duration = Duration::from_secs(3);
const COMMAND_BYTES: usize = 200;

struct Count(u64);

impl Machine for Count {
    type Reply = u64;
    type Snapshot = u64;

    fn apply(&mut self, _index: u64, _payload: &[u8]) -> u64 {
        self.0 += 1;
        self.0
    }

    fn encode_reply(reply: &u64) -> Vec<u8> {
        reply.to_le_bytes().to_vec()
    }

    fn decode_reply(bytes: &[u8]) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(u64::from_le_bytes(bytes.try_into()?))
    }

    fn after_batch(&mut self, _index: u64) {}

    fn snapshot(&self) -> u64 {
        self.0
    }

    fn encode(snapshot: &u64, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&snapshot.to_le_bytes())
    }

    fn restore(&mut self, input: &mut dyn Read) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut bytes = [0; 8];
        input.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

/// Latencies of operations that ran one after the other or side by side.
struct Figures {
    latencies_us: Vec<u64>,
    took: Duration,
}

impl Figures {
    fn print(mut self, name: &str) {
        self.latencies_us.sort_unstable();
        let at = |share: usize| self.latencies_us.get(self.latencies_us.len() * share / 1000).copied().unwrap_or(0);
        let rate = self.latencies_us.len() as f64 / self.took.as_secs_f64();
        println!("{name:<28} {rate:>9.0}/s   p50 {:>7} us   p99 {:>7} us", at(500), at(990));
    }
}

fn floor(folder: &Path) -> io::Result<Figures> {
    let mut file = File::create(folder.join("floor"))?;
    let start = flowyard_clock::monotonic();
    let mut latencies_us = Vec::new();
    while flowyard_clock::elapsed(start) < RUN {
        let one = flowyard_clock::monotonic();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        latencies_us.push(flowyard_clock::elapsed(one).as_micros() as u64);
    }
    Ok(Figures { latencies_us, took: flowyard_clock::elapsed(start) })
}

async fn callers(replica: &Replica<Count>, count: usize) -> Figures {
    let start = flowyard_clock::monotonic();
    let tasks = (0..count).map(|_| {
        let replica = replica.clone();
        tokio::spawn(async move {
            let mut latencies_us = Vec::new();
            while flowyard_clock::elapsed(start) < RUN {
                let one = flowyard_clock::monotonic();
                if replica.propose(vec![7; COMMAND_BYTES]).await.is_err() {
                    break;
                }
                latencies_us.push(flowyard_clock::elapsed(one).as_micros() as u64);
            }
            latencies_us
        })
    });
    let mut latencies_us = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies_us.extend(task.await.unwrap_or_default());
    }
    Figures { latencies_us, took: flowyard_clock::elapsed(start) }
}

/// What the process uses while nothing happens.
async fn idle() -> Result<(), Box<dyn Error>> {
    // utime and stime, in ticks of 10 ms.
    let ticks = || -> io::Result<u64> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        Ok(stat.split(' ').skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
    };
    let before = ticks()?;
    tokio::time::sleep(RUN * 2).await;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("idle for {:?}: {} ms of cpu, {resident}", RUN * 2, (ticks()? - before) * 10);
    Ok(())
}

async fn engine(kind: EngineKind, folder: &Path) -> Result<(), Box<dyn Error>> {
    let folder = folder.join(kind.name());
    for start in ["first start", "second start"] {
        let began = flowyard_clock::monotonic();
        let config = ReplicaConfig { engine: kind, ..ReplicaConfig::new(&folder) };
        let replica = Replica::open(config, Count(0)).await?;
        replica.wait_ready().await?;
        println!("{} {start}: ready after {:?}", kind.name(), flowyard_clock::elapsed(began));
        if start == "first start" {
            idle().await?;
        }
        if start == "second start" {
            for count in [1, 16, 256] {
                callers(&replica, count).await.print(&format!("{} {count} callers", kind.name()));
            }
            idle().await?;
            let stats = replica.stats();
            println!("{} {stats:?}, amplification {}", kind.name(), stats.log.amplification());
        }
        replica.shutdown().await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    for kind in EngineKind::ALL {
        floor(folder.path())?.print("4 KiB append + fdatasync");
        engine(kind, folder.path()).await?;
    }
    floor(folder.path())?.print("4 KiB append + fdatasync");
    Ok(())
}
