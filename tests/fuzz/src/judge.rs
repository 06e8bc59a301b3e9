//! Hands inputs to a target and judges what it did with them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flowyard_crash::Dice;

use crate::memory::peak_of;
use crate::mutate::mutate;
use crate::targets::Target;

/// Bytes that a decoder may hold for any input, however short.
const BASE_BYTES: usize = 4 << 20;
/// Bytes that it may hold for each byte of input: a message of two bytes becomes a struct of hundreds.
const TIMES: usize = 1024;
/// A decoder that takes longer over one input hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// An input that a decoder did not take well.
#[derive(Debug)]
pub struct Finding {
    /// What it did.
    pub what: String,
    /// The input.
    pub input: Vec<u8>,
}

/// What a run saw.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    /// Inputs.
    pub inputs: u64,
    /// Those that were accepted.
    pub accepted: u64,
    /// The most bytes held for one.
    pub peak_bytes: usize,
}

/// Hands one input over. Whether it was accepted, and what it took.
pub fn judge(target: &Target, input: &[u8]) -> Result<(bool, usize), Finding> {
    let finding = |what: String| Finding { what, input: input.to_vec() };
    let (ran, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let limit = BASE_BYTES + TIMES * input.len();
    match ran {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(finding(format!("it panicked: {}", text.unwrap_or_default())))
        }
        Ok(_) if peak > limit => Err(finding(format!("it held {peak} bytes over {} of input", input.len()))),
        Ok(accepted) => Ok((accepted, peak)),
    }
}

/// Hands over mutated inputs until `until` says that it is enough.
pub fn fuzz(target: &Target, seed: u64, mut until: impl FnMut(u64) -> bool) -> Result<Seen, Finding> {
    let watch = Watch::start(target.name);
    let mut corpus = (target.corpus)();
    let mut dice = Dice::new(seed);
    let mut seen = Seen::default();
    while !until(seen.inputs) {
        let input = mutate(&corpus, &mut dice);
        watch.next(&input);
        let (accepted, peak) = judge(target, &input)?;
        seen.inputs += 1;
        seen.accepted += u64::from(accepted);
        seen.peak_bytes = seen.peak_bytes.max(peak);
        // What is accepted and new leads further than what was there.
        if accepted && corpus.len() < 2_000 && dice.chance(50) {
            corpus.push(input);
        }
    }
    Ok(seen)
}

/// Ends the process over an input that takes too long, and says which.
struct Watch {
    input: Arc<Mutex<Vec<u8>>>,
    number: Arc<AtomicU64>,
}

impl Watch {
    #[allow(clippy::print_stderr, reason = "there is no other way out of a decoder that hangs")]
    fn start(target: &'static str) -> Self {
        let watch = Self { input: Arc::default(), number: Arc::default() };
        let (input, number) = (watch.input.clone(), Arc::downgrade(&watch.number));
        std::thread::spawn(move || {
            let mut before = 0;
            loop {
                std::thread::sleep(PATIENCE);
                let Some(now) = number.upgrade().map(|number| number.load(Ordering::Relaxed)) else { return };
                if now == before && now > 0 {
                    let input = input.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    eprintln!("{target} hangs over {input:?}");
                    std::process::abort();
                }
                before = now;
            }
        });
        watch
    }

    fn next(&self, input: &[u8]) {
        let mut watched = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        watched.clear();
        watched.extend_from_slice(input);
        self.number.fetch_add(1, Ordering::Relaxed);
    }
}

/// The inputs that were findings once.
pub fn regressions(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name);
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| std::fs::read(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
