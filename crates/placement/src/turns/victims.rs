//! Evictions: which attempts have to go so that a task can start, at the least loss.
//!
//! What is proposed has been tried: with the victims gone the task is within its bounds and has seats. None of them
//! is there in vain: with any one of them left the task could not start. A gang is one victim, with all its members.
//!
//! # Search
//! Node by node, the cheapest for what they free are taken until one more member fits there; the cheapest node is
//! chosen, until all members fit. Then whoever is not needed is spared, the dearest first. Where few may be evicted,
//! all sets are gone through that may be cheaper.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::bits::Bits;
use crate::fixed::ONE;
use crate::fleet::{Ended, NodeIndex, ShapeIndex};
use crate::turns::group::{GroupKey, Need};
use crate::turns::queues::{At, Queues, node_of};
use crate::turns::rights::{Claim, Reason, Rules, Running};
use crate::turns::round::{Ask, Room};
use crate::turns::share::{Held, dominant};

/// Where tasks can be seated, with those that run: to see what would be if some were gone.
pub trait Scratch: Room {
    /// Takes out what the attempt at a position in the list of those that run holds.
    fn take_out(&mut self, running: usize);

    /// Puts it back where it was.
    fn put_back(&mut self, running: usize);

    /// How many members of one task a node could hold beside each other now, at most so many.
    fn members_on(&mut self, ask: &Ask<'_>, node: NodeIndex, most: u32) -> u32;

    /// How many members a task of a shape has.
    fn members(&self, shape: ShapeIndex) -> u32;
}

/// Attempts to evict, and what starts in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evictions<S> {
    /// Positions in the list of those that run, ascending.
    pub victims: Vec<(usize, Reason)>,
    /// What is lost by it.
    pub price: u128,
    /// By which alternative the task starts.
    pub alternative: u32,
    /// Where it starts once they are gone.
    pub seated: S,
}

/// Finds what to evict so that one task of a group that waits can start; nothing if it could start without, or if
/// none or too few may be evicted for it. Queues and seats are as before afterwards. Each try is a step; when they
/// are used up it is what was found by then.
pub fn victims<S: Scratch>(
    queues: &mut Queues,
    scratch: &mut S,
    key: &GroupKey,
    running: &[Running],
    rules: &Rules,
    steps: &mut u64,
) -> Option<Evictions<S::Seated>> {
    queues.settle();
    let needs = queues.shapes.get(&key.shape)?.needs.clone();
    let prices: Vec<_> = running.iter().map(|running| running.price(&queues.capacity)).collect();
    let mut best: Option<(u128, u32, Vec<usize>)> = None;
    let mut search = |alternative: u32, work: &mut dyn FnMut(&mut Search<'_, S>)| {
        let (need, claim) = (&needs[alternative as usize], queues.claim(key, &needs[alternative as usize], rules));
        let (queues, scratch, prices, steps) = (&mut *queues, &mut *scratch, &prices[..], &mut *steps);
        let (key, out) = (*key, Vec::new());
        work(&mut Search { queues, scratch, key, claim, running, rules, steps, prices, alternative, need, out });
    };
    let mut fits = false;
    for alternative in 0..needs.len() as u32 {
        search(alternative, &mut |search| fits |= search.fits());
    }
    for alternative in (0..needs.len() as u32).filter(|_| !fits) {
        search(alternative, &mut |search| {
            let cheaper = |price| best.as_ref().is_none_or(|best| price < best.0);
            if let Some((price, set)) = search.least().filter(|(price, _)| cheaper(*price)) {
                best = Some((price, alternative, set));
            }
        });
    }
    let (price, alternative, set) = best?;
    let mut proven = None;
    search(alternative, &mut |search| proven = search.prove(&set, price));
    proven
}

struct Search<'a, S: Scratch> {
    queues: &'a mut Queues,
    scratch: &'a mut S,
    key: GroupKey,
    claim: Claim,
    running: &'a [Running],
    rules: &'a Rules,
    steps: &'a mut u64,
    prices: &'a [u128],
    alternative: u32,
    need: &'a Need,
    /// Those that are taken out.
    out: Vec<usize>,
}

/// A node, with those that may be evicted from it.
#[derive(Debug)]
struct Place {
    /// Less than this no member can cost.
    least: u128,
    node: NodeIndex,
    candidates: Vec<usize>,
}

/// Who would have to go from a node for more members to fit there.
#[derive(Debug, Clone)]
struct Trial {
    price: u128,
    members: u32,
    victims: Vec<usize>,
}

impl Trial {
    fn each(&self) -> u128 {
        self.price / u128::from(self.members.max(1))
    }
}

impl<S: Scratch> Search<'_, S> {
    /// The least that was found, with its price.
    fn least(&mut self) -> Option<(u128, Vec<usize>)> {
        let candidates: Vec<_> = (0..self.running.len()).filter(|at| self.reason(*at).is_some()).collect();
        let mut best = self.greedy(&candidates).map(|set| (self.price(&set), set));
        self.clear();
        if candidates.len() <= self.rules.exact_up_to.min(63) {
            let mut dearest_first = candidates;
            dearest_first.sort_by_key(|at| (Reverse(self.prices[*at]), *at));
            self.exact(&dearest_first, &mut best);
        }
        best.filter(|(_, set)| !set.is_empty())
    }

    fn greedy(&mut self, candidates: &[usize]) -> Option<Vec<usize>> {
        let places = self.places(candidates);
        let mut trials = BTreeMap::new();
        loop {
            let within = self.queues.within(self.key.queue, self.need, 1);
            if within.most == 0 {
                let victim = self.under_bound(candidates, self.queues.tight(&within.met)?)?;
                self.take_out(victim);
                self.forget(victim, &mut trials);
            } else if self.has_room(within.models.as_ref()) {
                break;
            } else {
                for at in self.cheapest(&places, &mut trials, within.models.as_ref())? {
                    if self.take_out_by_right(at) {
                        self.forget(at, &mut trials);
                    }
                }
            }
            *self.steps = self.steps.checked_sub(1)?;
        }
        self.spare();
        (*self.steps > 0).then(|| self.out.clone())
    }

    /// The nodes on which some may be evicted, with those; first where room for a member could cost least.
    fn places(&self, candidates: &[usize]) -> Vec<Place> {
        let on = candidates.iter().flat_map(|at| self.running[*at].seats.iter().map(|(node, _)| (*node, *at)));
        let mut on: Vec<_> = on.collect();
        on.sort_unstable();
        on.dedup();
        let members = u128::from(self.scratch.members(self.key.shape).max(1));
        let place = |on: &[(NodeIndex, usize)]| {
            let candidates: Vec<_> = on.iter().map(|(_, at)| *at).collect();
            let least = candidates.iter().map(|at| self.prices[*at]).min().unwrap_or(0);
            Place { least: least / members, node: on[0].0, candidates }
        };
        let mut places: Vec<_> = on.chunk_by(|one, other| one.0 == other.0).map(place).collect();
        places.sort_by_key(|place| (place.least, place.node));
        places
    }

    /// Whom to evict so that the bound of a node is met: the cheapest below it.
    fn under_bound(&mut self, candidates: &[usize], tight: At) -> Option<usize> {
        let below = |at: &&usize| self.queues.path(node_of(self.running[**at].queue)).any(|on| on == tight);
        let mut below: Vec<_> = candidates.iter().filter(below).filter(|at| !self.out.contains(at)).copied().collect();
        below.sort_by_key(|at| (self.prices[*at], *at));
        let found = below.into_iter().find(|at| self.take_out_by_right(*at))?;
        self.put_back(found);
        Some(found)
    }

    /// Whose eviction lets one more member fit somewhere at the least price for each. Nodes where it cannot be less than
    /// what was found are not tried.
    fn cheapest(
        &mut self,
        places: &[Place],
        trials: &mut BTreeMap<NodeIndex, Option<Trial>>,
        models: Option<&Bits>,
    ) -> Option<Vec<usize>> {
        let mut best: Option<(u128, NodeIndex)> = None;
        for place in places {
            if best.is_some_and(|best| best < (place.least, place.node)) {
                break;
            }
            let trial = trials.entry(place.node).or_insert_with(|| self.try_node(place, models));
            if let Some(trial) = trial
                && best.is_none_or(|best| (trial.each(), place.node) < best)
            {
                best = Some((trial.each(), place.node));
            }
        }
        let (_, node) = best?;
        trials.remove(&node).flatten().map(|trial| trial.victims)
    }

    fn try_node(&mut self, place: &Place, models: Option<&Bits>) -> Option<Trial> {
        let node = place.node;
        let ask = Ask { shape: self.key.shape, alternative: self.alternative, models };
        let most = self.scratch.members(self.key.shape);
        let before = self.scratch.members_on(&ask, node, most);
        if before >= most {
            return None;
        }
        let mut order: Vec<_> = place.candidates.iter().filter(|at| !self.out.contains(at)).copied().collect();
        order.sort_by_key(|at| (self.price_for_room(*at, node), *at));
        let (mut taken, mut after) = (Vec::new(), before);
        for at in order {
            if after > before || *self.steps == 0 {
                break;
            }
            *self.steps -= 1;
            if self.take_out_by_right(at) {
                taken.push(at);
                after = self.scratch.members_on(&ask, node, most);
            }
        }
        let mut needed = Vec::new();
        taken.sort_by_key(|at| (Reverse(self.prices[*at]), *at));
        for at in &taken {
            self.put_back(*at);
            if after > before && self.scratch.members_on(&ask, node, most) < after {
                self.take_out(*at);
                needed.push(*at);
            }
        }
        needed.iter().for_each(|at| self.put_back(*at));
        (after > before).then(|| Trial { price: self.price(&needed), members: after - before, victims: needed })
    }

    /// What an eviction costs for what it frees on a node of what is needed.
    fn price_for_room(&self, at: usize, node: NodeIndex) -> u128 {
        let seats = self.running[at].seats.iter().filter(|(on, _)| *on == node);
        let mut freed = Held::NONE;
        seats.for_each(|(_, held)| freed.add(held, 1));
        let of_use = self.need.held.entries().map(|(column, _)| (column, freed.at(column)));
        let part = dominant(of_use, &self.queues.capacity);
        self.prices[at].saturating_mul(u128::from(ONE)) / u128::from(part.max(1))
    }

    /// What was tried where an attempt had seats has to be tried again.
    fn forget(&self, gone: usize, trials: &mut BTreeMap<NodeIndex, Option<Trial>>) {
        for (node, _) in &self.running[gone].seats {
            trials.remove(node);
        }
    }

    /// Spares whoever is not needed, the dearest first.
    fn spare(&mut self) {
        let mut dearest_first = self.out.clone();
        dearest_first.sort_by_key(|at| (Reverse(self.prices[*at]), *at));
        for at in dearest_first {
            self.put_back(at);
            if !self.fits() {
                self.take_out(at);
            }
        }
    }

    /// Goes through all sets that may be cheaper than the best one.
    fn exact(&mut self, left: &[usize], best: &mut Option<(u128, Vec<usize>)>) {
        let price = self.price(&self.out);
        if *self.steps == 0 || best.as_ref().is_some_and(|best| price >= best.0) {
            return;
        }
        *self.steps -= 1;
        if self.fits() {
            *best = Some((price, self.out.clone()));
            return;
        }
        let Some((first, rest)) = left.split_first() else { return };
        let all = self.out.len();
        left.iter().for_each(|at| self.take_out(*at));
        let may_fit = self.fits();
        while self.out.len() > all {
            self.put_back(self.out[all]);
        }
        if may_fit {
            self.exact(rest, best);
            if self.take_out_by_right(*first) {
                self.exact(rest, best);
                self.put_back(*first);
            }
        }
    }

    /// The task seated with the victims gone, and everything put back.
    fn prove(&mut self, set: &[usize], price: u128) -> Option<Evictions<S::Seated>> {
        set.iter().for_each(|at| self.take_out(*at));
        let reasons: Vec<_> = set.iter().map(|at| self.reason(*at)).collect();
        let within = self.queues.within(self.key.queue, self.need, 1);
        let ask = Ask { shape: self.key.shape, alternative: self.alternative, models: within.models.as_ref() };
        let mut seated = Vec::new();
        // It was seated before, so this does not depend on how many steps are left.
        let mut steps = u64::MAX;
        self.scratch.seat(&ask, 1, &mut steps, &mut seated);
        seated.iter().for_each(|seated| self.scratch.give_back(self.key.shape, seated));
        self.clear();
        let mut victims: Vec<_> =
            set.iter().zip(reasons).map(|(at, reason)| Some((*at, reason?))).collect::<Option<_>>()?;
        victims.sort_unstable();
        Some(Evictions { victims, price, alternative: self.alternative, seated: seated.pop()? })
    }

    fn fits(&mut self) -> bool {
        let within = self.queues.within(self.key.queue, self.need, 1);
        within.most > 0 && self.has_room(within.models.as_ref())
    }

    fn has_room(&mut self, models: Option<&Bits>) -> bool {
        let ask = Ask { shape: self.key.shape, alternative: self.alternative, models };
        self.scratch.has_room(&ask, self.steps) == Ended::Enough
    }

    fn price(&self, set: &[usize]) -> u128 {
        set.iter().map(|at| self.prices[*at]).fold(0, u128::saturating_add)
    }

    /// Why an attempt may be evicted beside those that are taken out.
    fn reason(&self, at: usize) -> Option<Reason> {
        self.queues.right_to(&self.claim, &self.running[at], self.out.contains(&at))
    }

    /// Takes an attempt out if it may be evicted beside those that are out, and they beside it.
    fn take_out_by_right(&mut self, at: usize) -> bool {
        self.take_out(at);
        let all = self.out.iter().all(|at| self.reason(*at).is_some());
        if !all {
            self.put_back(at);
        }
        all
    }

    fn take_out(&mut self, at: usize) {
        debug_assert!(!self.out.contains(&at), "it is out already");
        self.queues.lift(&self.running[at]);
        self.scratch.take_out(at);
        self.out.push(at);
    }

    fn put_back(&mut self, at: usize) {
        self.out.retain(|out| *out != at);
        self.scratch.put_back(at);
        self.queues.lay(&self.running[at]);
    }

    fn clear(&mut self) {
        while let Some(at) = self.out.last() {
            self.put_back(*at);
        }
    }
}
