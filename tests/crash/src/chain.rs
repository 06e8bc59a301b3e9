//! A chain of writers over one disk: each goes on where the one before was ended.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::cut::Loss;
use crate::dice::Dice;
use crate::mount::{Mounted, keep_mounts_to_this_thread};
use crate::writers::Workload;

/// Promises after which a writer with a failing disk is ended, if it has not ended by itself.
const ACKS_WITH_FAULT: u64 = 300;

/// What to run.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The program that runs writers: `crash`.
    pub program: PathBuf,
    /// What is written.
    pub workload: Workload,
    /// What decides how each writer ends.
    pub seed: u64,
    /// How many writers there are.
    pub writers: u32,
}

/// How a chain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every promise was kept.
    Whole,
    /// The product refused what it found as damaged.
    Refused(String),
    /// A promise was broken and nobody said so, or a writer died.
    Wrong(String),
}

/// What a chain saw.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// Promises made.
    pub acks: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Other ends: kills and failing disks.
    pub faults: u64,
}

/// What happens to one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is killed, and the power stays.
    Kill,
    /// The power is cut while it works.
    Cut,
    /// The power is cut while it starts.
    EarlyCut,
    /// A sync fails; then the power is cut.
    FailedSync,
    /// The disk is full; then it is killed.
    Full,
    /// Every sync is slow; then the power is cut.
    Slow,
}

impl Fate {
    fn draw(dice: &mut Dice) -> Self {
        match dice.within(0, 19) {
            0..=2 => Self::Kill,
            3..=11 => Self::Cut,
            12..=14 => Self::EarlyCut,
            15 | 16 => Self::FailedSync,
            17 | 18 => Self::Full,
            _ => Self::Slow,
        }
    }
}

/// A writer while it runs.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// What it said last that is no promise.
    said: Option<String>,
    fresh: Vec<String>,
}

impl Running {
    /// Reads the next line; false at the end.
    fn listen(&mut self) -> io::Result<bool> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        match line.strip_suffix('\n').map(|line| line.split_once(' ').unwrap_or((line, ""))) {
            Some(("ack", ack)) => self.fresh.push(ack.to_owned()),
            Some(_) => self.said = Some(line.trim_end().to_owned()),
            // Cut off in the middle: nobody has heard it whole.
            None => {}
        }
        Ok(true)
    }

    /// Waits until it has made so many promises; false when it ended before.
    fn await_acks(&mut self, wanted: u64) -> io::Result<bool> {
        while self.said.is_none() || (self.fresh.len() as u64) < wanted {
            if !self.listen()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends it, and hears what it had still said.
    fn end(&mut self) -> io::Result<()> {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait()?;
        while self.listen()? {}
        Ok(())
    }
}

impl Chain {
    /// Runs the chain on a disk of its own.
    pub fn run(&self) -> io::Result<Report> {
        // Whoever may mount and not do this leaves a mount behind if the run is ended from outside.
        let _ = keep_mounts_to_this_thread();
        let folder = tempfile::tempdir()?;
        let (disk, promises) = (folder.path().join("disk"), folder.path().join("acks"));
        std::fs::create_dir(&disk)?;
        std::fs::write(&promises, "")?;
        let mounted = Mounted::at(&disk)?;
        let mut dice = Dice::new(self.seed);
        let mut report = Report { end: End::Whole, acks: 0, cuts: 0, faults: 0 };
        for _ in 0..self.writers {
            let fate = Fate::draw(&mut dice);
            let end = self.one(&mounted, &promises, fate, &mut dice, &mut report)?;
            if end != End::Whole {
                report.end = end;
                return Ok(report);
            }
        }
        report.end = self.one(&mounted, &promises, Fate::Kill, &mut dice, &mut report)?;
        Ok(report)
    }

    fn start(&self, disk: &Path, promises: &Path) -> io::Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(["write", &self.workload.name(), &self.seed.to_string()]).arg(disk).arg(promises);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("its output is piped"));
        Ok(Running { child, lines, said: None, fresh: Vec::new() })
    }

    /// One writer, from its start to its end.
    fn one(
        &self,
        mounted: &Mounted,
        promises: &Path,
        fate: Fate,
        dice: &mut Dice,
        report: &mut Report,
    ) -> io::Result<End> {
        let mut running = self.start(mounted.path(), promises)?;
        let wanted = dice.pick(&[1, 2, 4, 10, 30, 80]);
        let alive = if fate == Fate::EarlyCut {
            std::thread::sleep(Duration::from_micros(dice.within(0, 25_000)));
            running.child.try_wait()?.is_none()
        } else {
            running.await_acks(wanted)?
        };
        if !alive {
            running.end()?;
            return Ok(verdict(running.said.as_deref()));
        }
        self.disturb(mounted, fate, &mut running, dice)?;
        let cut = !matches!(fate, Fate::Kill | Fate::Full);
        mounted.medium().faults.off = cut;
        running.end()?;
        let mut medium = mounted.medium();
        if cut {
            medium.cut_power(Loss::draw(dice), dice);
        }
        medium.faults = crate::medium::Faults::default();
        drop(medium);
        report.acks += running.fresh.len() as u64;
        report.cuts += u64::from(cut);
        report.faults += u64::from(!matches!(fate, Fate::Cut | Fate::EarlyCut));
        keep(promises, &running.fresh)?;
        // What it said while the disk was failing or off is no verdict: the next writer gives one.
        Ok(End::Whole)
    }

    /// Lets the disk fail and waits until the writer has noticed, or a moment.
    fn disturb(&self, mounted: &Mounted, fate: Fate, running: &mut Running, dice: &mut Dice) -> io::Result<()> {
        let acks = running.fresh.len() as u64;
        {
            let mut medium = mounted.medium();
            match fate {
                Fate::FailedSync => medium.faults.failing_syncs = dice.within(1, 2) as u32,
                Fate::Full => medium.faults.capacity_bytes = Some(medium.live_bytes() + dice.within(0, 60_000)),
                Fate::Slow => medium.faults.sync_delay_ms = dice.within(1, 8),
                Fate::Kill | Fate::Cut | Fate::EarlyCut => {}
            }
        }
        match fate {
            Fate::FailedSync | Fate::Full => running.await_acks(acks + ACKS_WITH_FAULT).map(drop),
            Fate::Slow => running.await_acks(acks + 5).map(drop),
            Fate::Kill | Fate::Cut | Fate::EarlyCut => {
                std::thread::sleep(Duration::from_micros(dice.within(0, 3_000)));
                Ok(())
            }
        }
    }
}

/// What the last words of a writer mean that ended without having been ended.
fn verdict(said: Option<&str>) -> End {
    let said = said.unwrap_or("it died without a word");
    match said.split_once(' ') {
        Some(("refused", text)) => End::Refused(text.to_owned()),
        _ => End::Wrong(said.to_owned()),
    }
}

fn keep(promises: &Path, fresh: &[String]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(promises)?;
    fresh.iter().try_for_each(|ack| writeln!(file, "{ack}"))
}
