//! What the work there is asks for of devices: averaged over hours, and a coarse picture of it that placement is told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{GpuRequest, TimeMs};

/// Devices asked for are looked at this often, in milliseconds, and at the whole multiples of it.
pub const MIX_PERIOD_MS: u64 = 300_000;
/// Looks that the average goes over: the weight of a look is halved after six hours.
const LOOKS: u32 = 104;
/// Kinds of which an average is kept; of more, those that are asked for most.
const AVERAGED: usize = 64;
/// Kinds that placement is told of; of more, those that are asked for most.
const TOLD: usize = 16;
/// All kinds that are told of together are so many parts.
const PARTS: u64 = 64;
/// A picture is told anew once the parts of a kind have changed by so many.
const CHANGED: u32 = 3;
/// The most that one look counts of a kind, in thousandths of a device: no fleet has as many.
const MOST: u64 = 1 << 44;
/// An average is in 2^-16 of a thousandth of a device.
const FINE: u32 = 16;
/// An average below this is forgotten.
const LEAST: u64 = 1 << 12;

/// How common a kind of work with devices is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixKind {
    /// What a member asks for, the model in lower case.
    pub request: GpuRequest,
    /// The devices that it asked for, on average over the last hours, in 2^-16 of a thousandth of one.
    pub average: u64,
    /// The parts of it in the picture that placement is told; 0 if it is not in it.
    pub told: u32,
}

impl MixKind {
    fn is_nothing(&self) -> bool {
        (self.average, self.told) == (0, 0)
    }
}

/// The kinds of work with devices, and how common they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// The beginning of the period in which it was looked last.
    pub at: TimeMs,
    /// How often it was looked, as far as it matters.
    pub looks: u32,
    /// Ascending by what they ask for.
    pub kinds: Vec<MixKind>,
}

impl Default for Mix {
    /// Nobody looked yet.
    fn default() -> Self {
        Self { at: TimeMs(0), looks: 0, kinds: Vec::new() }
    }
}

impl Mix {
    /// Whether it is looked again at this time.
    pub fn is_due(&self, now: TimeMs) -> bool {
        begins(now) > self.at
    }

    /// Takes in the thousandths of devices that each kind asks for, as they were since it was looked last. As long as nobody
    /// asks for any, the picture stays as it is: tomorrow's work is like today's.
    pub fn look(&mut self, now: TimeMs, asked: BTreeMap<GpuRequest, u64>) {
        let periods = begins(now).0.saturating_sub(self.at.0) / MIX_PERIOD_MS;
        self.at = self.at.max(begins(now));
        let mut asked: Vec<_> = asked.into_iter().filter(|(_, milli)| *milli > 0).collect();
        if asked.is_empty() {
            return;
        }
        asked.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        asked.truncate(AVERAGED);
        // Nothing is known of how it was before the first look.
        let times = if self.looks == 0 { 1 } else { periods.min(u64::from(10 * LOOKS)) };
        for _ in 0..times {
            self.looks = (self.looks + 1).min(LOOKS);
            let looks = u64::from(self.looks);
            self.kinds.iter_mut().for_each(|kind| kind.average -= kind.average / looks);
            for (request, milli) in &asked {
                let average = &mut self.kind_mut(request).average;
                *average = average.saturating_add(((*milli).min(MOST) << FINE) / looks);
            }
        }
        self.forget();
        self.tell();
    }

    /// One of the kinds, a new one if it is not there.
    fn kind_mut(&mut self, request: &GpuRequest) -> &mut MixKind {
        let at = self.kinds.binary_search_by(|kind| kind.request.cmp(request)).unwrap_or_else(|at| {
            self.kinds.insert(at, MixKind { request: request.clone(), average: 0, told: 0 });
            at
        });
        &mut self.kinds[at]
    }

    /// Of many kinds those are forgotten that are asked for least.
    fn forget(&mut self) {
        let kept = self.most_common(AVERAGED);
        for (at, kind) in self.kinds.iter_mut().enumerate() {
            if kind.average < LEAST || !kept.contains(&at) {
                kind.average = 0;
            }
        }
        self.kinds.retain(|kind| !kind.is_nothing());
    }

    /// Where those are that are asked for most, so many of them.
    fn most_common(&self, count: usize) -> BTreeSet<usize> {
        let mut places: Vec<_> = (0..self.kinds.len()).collect();
        places.sort_by_key(|at| (Reverse(self.kinds[*at].average), *at));
        places.into_iter().take(count).collect()
    }

    /// Tells another picture where the last one is not right any more.
    fn tell(&mut self) {
        let most = self.most_common(TOLD);
        let all: u128 = most.iter().map(|at| u128::from(self.kinds[*at].average)).sum();
        let parts_of = |average: u64| (u128::from(average) * u128::from(PARTS) + all / 2).checked_div(all).unwrap_or(0);
        let parts = |(at, kind): (usize, &MixKind)| if most.contains(&at) { parts_of(kind.average) as u32 } else { 0 };
        let now: Vec<u32> = self.kinds.iter().enumerate().map(parts).collect();
        if self.kinds.iter().zip(&now).all(|(kind, now)| kind.told.abs_diff(*now) < CHANGED) {
            return;
        }
        self.kinds.iter_mut().zip(now).for_each(|(kind, now)| kind.told = now);
        self.kinds.retain(|kind| !kind.is_nothing());
    }

    /// The picture: kinds with their parts of all.
    pub fn told(&self) -> impl Iterator<Item = (&GpuRequest, u32)> {
        self.kinds.iter().filter(|kind| kind.told > 0).map(|kind| (&kind.request, kind.told))
    }

    /// Whether two tell the same picture.
    pub fn tells_as(&self, other: &Self) -> bool {
        self.told().eq(other.told())
    }

    /// Whether it is one that [`Mix::look`] makes.
    pub fn is_sound(&self) -> bool {
        let few = self.kinds.len() <= AVERAGED + TOLD && self.told().count() <= TOLD && self.looks <= LOOKS;
        let ascend = self.kinds.is_sorted_by(|one, next| one.request < next.request);
        let sound = |kind: &MixKind| {
            let bounded = u64::from(kind.told) <= PARTS && kind.average <= MOST << FINE << 1;
            bounded && !kind.is_nothing() && kind.request == kind.request.kind()
        };
        few && ascend && self.at.0.is_multiple_of(MIX_PERIOD_MS) && self.kinds.iter().all(sound)
    }
}

impl GpuRequest {
    /// What everybody asks for who asks for the same: models are compared without case.
    #[must_use]
    pub fn kind(&self) -> Self {
        Self { model: self.model.as_ref().map(|model| model.to_ascii_lowercase()), ..self.clone() }
    }
}

/// The beginning of the period that a time is in.
fn begins(at: TimeMs) -> TimeMs {
    TimeMs(at.0 / MIX_PERIOD_MS * MIX_PERIOD_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(count: u32) -> GpuRequest {
        let (model, same_link_group) = (None, false);
        GpuRequest {
            count,
            model,
            min_memory_bytes: 0,
            same_link_group,
            link: None,
            share_milli: 1_000,
            memory_bytes: 0,
        }
    }

    /// So many looks, one after the other, at which these kinds ask for so many thousandths.
    fn looked(mix: &mut Mix, looks: u64, asked: &[(u32, u64)]) {
        let asked: BTreeMap<_, _> = asked.iter().map(|(count, milli)| (gpus(*count), *milli)).collect();
        for _ in 0..looks {
            mix.look(mix.at.after(MIX_PERIOD_MS), asked.clone());
            assert!(mix.is_sound(), "{mix:?}");
        }
    }

    fn told(mix: &Mix) -> Vec<(u32, u32)> {
        mix.told().map(|(kind, parts)| (kind.count, parts)).collect()
    }

    #[test]
    fn it_is_the_mean_at_first_and_what_was_long_ago_counts_less() {
        let mut mix = Mix::default();
        looked(&mut mix, 1, &[(8, 64_000)]);
        assert_eq!(told(&mix), [(8, 64)], "what is known at once");
        looked(&mut mix, 3, &[(1, 64_000)]);
        assert_eq!(told(&mix), [(1, 48), (8, 16)], "three of four looks");
        looked(&mut mix, 72, &[(1, 64_000)]);
        looked(&mut mix, 72, &[(8, 64_000)]);
        let half = mix.kind_mut(&gpus(8)).average;
        assert!(half.abs_diff(32_000 << FINE) < 2_000 << FINE, "half after six hours: {half}");
        looked(&mut mix, 2_000, &[(8, 64_000)]);
        let kept = told(&mix);
        assert!(kept.contains(&(8, 63)) || kept == [(8, 64)], "{kept:?}");
        assert_eq!(mix.kind_mut(&gpus(1)).average, 0, "what nobody asks for is forgotten");
    }

    #[test]
    fn a_picture_stays_until_it_is_wrong_and_while_nobody_asks() {
        let mut mix = Mix::default();
        looked(&mut mix, 200, &[(1, 32_000), (8, 32_000)]);
        let before = mix.clone();
        looked(&mut mix, 200, &[(1, 34_000), (8, 30_000)]);
        assert!(mix.tells_as(&before), "two parts of 64 are no other picture: {mix:?}");
        looked(&mut mix, 200, &[(1, 48_000), (8, 16_000)]);
        assert!(told(&mix)[0].1 > 43, "it follows: {mix:?}");
        let before = mix.clone();
        looked(&mut mix, 1_000, &[]);
        assert_eq!((mix.kinds, mix.looks), (before.kinds, before.looks), "nobody asks at night");
        assert!(mix.at > before.at);
    }

    #[test]
    fn a_look_after_a_while_counts_for_all_of_it() {
        let (mut one, mut other) = (Mix::default(), Mix::default());
        looked(&mut one, 10, &[(1, 9_000), (8, 7)]);
        looked(&mut other, 10, &[(1, 9_000), (8, 7)]);
        looked(&mut one, 50, &[(2, 5_000)]);
        other.look(one.at, BTreeMap::from([(gpus(2), 5_000)]));
        assert_eq!(one, other);
    }

    #[test]
    fn of_very_many_kinds_a_few_are_kept_and_nothing_overflows() {
        let mut mix = Mix::default();
        let many: Vec<_> = (1..2_000).map(|count| (count, u64::MAX - u64::from(count % 7))).collect();
        looked(&mut mix, 300, &many);
        let some: Vec<_> = (1..2_000).map(|count| (count, u64::from(count) << 30)).collect();
        looked(&mut mix, 3_000, &some);
        assert!(mix.kinds.len() <= AVERAGED + TOLD);
        assert!(told(&mix).len() <= TOLD && told(&mix).iter().all(|(count, _)| *count > 1_900), "{:?}", told(&mix));
    }
}
