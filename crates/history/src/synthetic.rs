//! Traces by the dice, with the marginals of published ones: how long jobs run, how many GPUs they take, when they arrive, and how
//! unequally people submit. Nothing is correlated that is not said so; the published traces themselves are not used.
//!
//! The tables below are fitted by hand to what the papers say in summary, from memory.

use flowyard_model::QueuePath;

use crate::arrivals::Arrival;

/// Whose marginals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Microsoft's Philly: Jeon and others, USENIX ATC 2019.
    Philly,
    /// SenseTime's Helios: Hu and others, SC 2021.
    Helios,
}

impl Profile {
    /// By its name.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "philly" => Some(Self::Philly),
            "helios" => Some(Self::Helios),
            _ => None,
        }
    }

    /// Durations in seconds, at thousandths of all jobs; straight lines in between.
    fn durations(self) -> &'static [(u64, u64)] {
        match self {
            Self::Philly => &[
                (0, 10),
                (100, 60),
                (250, 180),
                (500, 780),
                (750, 7_200),
                (900, 45_000),
                (950, 100_000),
                (990, 400_000),
                (1_000, 1_800_000),
            ],
            Self::Helios => &[
                (0, 1),
                (100, 10),
                (250, 40),
                (500, 206),
                (750, 1_200),
                (900, 9_000),
                (950, 25_000),
                (990, 90_000),
                (1_000, 500_000),
            ],
        }
    }

    /// GPUs of a job, with how many of a thousand jobs take as many.
    fn gpus(self) -> &'static [(u64, u32)] {
        match self {
            Self::Philly => &[(810, 1), (65, 2), (70, 4), (48, 8), (5, 16), (2, 32)],
            Self::Helios => &[(591, 1), (120, 2), (100, 4), (130, 8), (35, 16), (18, 32), (6, 64)],
        }
    }

    /// What the paper says, as far as it is remembered: a word for it, and the figure.
    fn published(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Philly => &[("duration mean s", 28_329), ("gpus mean x100", 175), ("jobs of one GPU %", 80)],
            Self::Helios => &[
                ("duration p50 s", 206),
                ("duration mean s", 6_652),
                ("gpus mean x100", 372),
                ("jobs of one GPU %", 60),
            ],
        }
    }
}

/// How busy each hour of a day is, in parts of the busiest.
const HOURS: [u64; 24] =
    [45, 38, 33, 30, 28, 28, 30, 36, 50, 72, 90, 96, 84, 82, 94, 100, 98, 94, 84, 74, 72, 70, 64, 54];
/// How busy each day of a week is.
const DAYS: [u64; 7] = [100, 100, 98, 96, 92, 52, 48];

/// What is wanted of a trace.
#[derive(Debug, Clone, Copy)]
pub struct Synthetic {
    /// Whose marginals.
    pub profile: Profile,
    /// Jobs, of one task each.
    pub jobs: u64,
    /// Days over which they arrive.
    pub days: u64,
    /// People; the k-th submits as much as the first by k.
    pub people: u64,
    /// Queues that people are divided between; none but the usual one if 0.
    pub queues: u64,
    /// Most GPUs of one job; what is more becomes as many.
    pub most_gpus: u32,
    /// Another seed, another trace.
    pub seed: u64,
}

/// Makes a trace, by time of arrival.
pub fn synthesize(wanted: &Synthetic) -> Vec<Arrival> {
    let mut dice = Dice(wanted.seed ^ 0x5DEE_CE66_D1CE_4E5B);
    let people = Weighted::of((1..=wanted.people.max(1)).map(|rank| 1_000_000 / rank));
    let gpus = Weighted::of(wanted.profile.gpus().iter().map(|(share, _)| *share));
    let days = Weighted::of((0..wanted.days.max(1)).map(|day| DAYS[(day % 7) as usize]));
    let hours = Weighted::of(HOURS);
    let mut arrivals: Vec<Arrival> = (0..wanted.jobs)
        .map(|_| {
            let within = dice.below(3_600_000);
            let at_ms = (days.draw(&mut dice) as u64 * 24 + hours.draw(&mut dice) as u64) * 3_600_000 + within;
            let person = people.draw(&mut dice);
            let gpus = wanted.profile.gpus()[gpus.draw(&mut dice)].1.min(wanted.most_gpus);
            Arrival {
                at_ms,
                duration_ms: duration_ms(wanted.profile, &mut dice),
                cpu_milli: u64::from(gpus) * 4_000,
                memory_bytes: u64::from(gpus) * (16 << 30),
                gpus,
                share_milli: 1_000,
                model: None,
                queue: queue(person as u64, wanted.queues),
                user: format!("user-{:03}", person + 1),
                count: 1,
            }
        })
        .collect();
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    arrivals
}

/// The queue of a person: neighbours by how much they submit are in different ones.
fn queue(person: u64, queues: u64) -> Option<QueuePath> {
    let number = person.checked_rem(queues)? + 1;
    format!("lab-{number:02}").parse().ok()
}

fn duration_ms(profile: Profile, dice: &mut Dice) -> u64 {
    let at = dice.below(1_000_000);
    let table = profile.durations();
    let above = table.iter().position(|(thousandth, _)| thousandth * 1_000 > at).unwrap_or(table.len() - 1);
    let ((from, low), (to, high)) = (table[above - 1], table[above]);
    let (into, span) = (at - from * 1_000, (to - from) * 1_000);
    low * 1_000 + (high - low) * 1_000 * into / span
}

/// A figure of a trace beside the published one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantile {
    /// Of what.
    pub of: &'static str,
    /// In the trace.
    pub here: u64,
    /// In the paper, as far as it is remembered.
    pub published: Option<u64>,
}

/// The figures by which a trace is compared with the published one.
pub fn quantiles(profile: Profile, arrivals: &[Arrival]) -> Vec<Quantile> {
    let mut durations: Vec<u64> = arrivals.iter().map(|arrival| arrival.duration_ms / 1_000).collect();
    durations.sort_unstable();
    let count = arrivals.len().max(1) as u64;
    let at = |percent: usize| {
        durations.get((durations.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0)
    };
    let gpus: u64 = arrivals.iter().map(|arrival| u64::from(arrival.gpus)).sum();
    let single = arrivals.iter().filter(|arrival| arrival.gpus == 1).count() as u64;
    let mut by_person = std::collections::BTreeMap::<&str, u64>::new();
    for arrival in arrivals {
        *by_person.entry(&arrival.user).or_default() += u64::from(arrival.gpus) * arrival.duration_ms / 1_000;
    }
    let all: u64 = by_person.values().sum::<u64>().max(1);
    let mut shares: Vec<u64> = by_person.into_values().collect();
    shares.sort_unstable_by(|one, other| other.cmp(one));
    let top: u64 = shares.iter().take(shares.len().div_ceil(20)).sum();
    let here = [
        ("duration p50 s", at(50)),
        ("duration p90 s", at(90)),
        ("duration p99 s", at(99)),
        ("duration mean s", durations.iter().sum::<u64>() / count),
        ("gpus mean x100", gpus * 100 / count),
        ("jobs of one GPU %", single * 100 / count),
        ("GPU time of the top 5 % of people %", top * 100 / all),
    ];
    let published = |of| profile.published().iter().find(|(word, _)| *word == of).map(|(_, figure)| *figure);
    here.into_iter().map(|(of, here)| Quantile { of, here, published: published(of) }).collect()
}

/// Draws places by weight.
struct Weighted(Vec<u64>);

impl Weighted {
    fn of(weights: impl IntoIterator<Item = u64>) -> Self {
        let mut sum = 0;
        Self(
            weights
                .into_iter()
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, dice: &mut Dice) -> usize {
        let at = dice.below(self.0.last().copied().unwrap_or(1));
        self.0.partition_point(|sum| *sum <= at)
    }
}

/// SplitMix64: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end.max(1))) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(profile: Profile, seed: u64) -> Synthetic {
        Synthetic { profile, jobs: 20_000, days: 14, people: 100, queues: 8, most_gpus: 64, seed }
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_and_another_one_another() {
        let trace = synthesize(&wanted(Profile::Helios, 1));
        assert_eq!(trace, synthesize(&wanted(Profile::Helios, 1)));
        assert_ne!(trace, synthesize(&wanted(Profile::Helios, 2)));
        assert!(trace.is_sorted_by_key(|arrival| arrival.at_ms));
        assert!(trace.last().unwrap().at_ms < 14 * 24 * 3_600_000);
        assert_eq!(
            trace.iter().filter_map(|arrival| arrival.queue.clone()).collect::<std::collections::BTreeSet<_>>().len(),
            8
        );
    }

    #[test]
    fn figures_are_near_the_published_ones() {
        for profile in [Profile::Philly, Profile::Helios] {
            for quantile in quantiles(profile, &synthesize(&wanted(profile, 7))) {
                let Some(published) = quantile.published else { continue };
                let far = quantile.here.abs_diff(published) * 100 / published;
                assert!(far <= 15, "{profile:?}: {quantile:?} is {far} % off");
            }
        }
    }
}
