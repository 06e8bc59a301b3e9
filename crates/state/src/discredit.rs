//! What is held against nodes, and what follows from it: who failed much work of late is given new work last, or none.
//!
//! Points fade by time and are computed when they are asked for; an entry is needed only when something else follows from them.
//!
//! Invariant: only a node that is up and open is shunned, and at most one of [`limits::SHUNNED_OF`] of these: the fault may be
//! with all of them. So the last nodes are never shunned, and no node of fewer than that many.

use std::sync::Arc;

use flowyard_model::{
    AttemptDesired, AttemptOutcome, Blame, Changed, Charge, ClusterVersion, Discredit, End, MemberKey, Node, NodeId,
    Reason, Scheduling, Standing, StuckPhase, TimeMs, limits,
};

use crate::indexes::Indexes;
use crate::state::State;
use crate::{claims, decay};

/// A member ended on a node as this says.
pub(crate) fn by_end(state: &mut State, changed: &mut Changed, node: NodeId, key: MemberKey, end: &End) {
    let counts = matches!(end.outcome, AttemptOutcome::Failed | AttemptOutcome::Rejected | AttemptOutcome::Lost);
    // The loss of a node counts once, not for each member.
    if !counts || end.reason == Reason::NodeLost {
        return;
    }
    // Of a gang that is given up all end for want of progress; only who took nothing is the cause.
    if end.reason == Reason::Stuck && is_given_up_for_others(state, key) {
        return;
    }
    let points_milli = match end.blame {
        Blame::User => return,
        Blame::Platform => limits::DISCREDIT_PLATFORM_MILLI,
        Blame::Hardware => limits::DISCREDIT_HARDWARE_MILLI,
    };
    let charge = Charge { at: state.meta.time, reason: end.reason, blame: end.blame, member: Some(key) };
    add(state, changed, node, points_milli, charge);
}

/// Whether a member ends because other members of its gang were taken by nobody.
fn is_given_up_for_others(state: &State, key: MemberKey) -> bool {
    let given_up = state.attempt(key.task, key.attempt).filter(|it| it.desired == AttemptDesired::GiveUp);
    let member = given_up.and_then(|attempt| attempt.members.get(key.rank.0 as usize));
    member.is_some_and(|member| member.stuck != Some(StuckPhase::Accepting))
}

/// A node was lost, or what ran there. One that was closed to new work may be switched off.
pub(crate) fn by_loss(state: &mut State, changed: &mut Changed, node: NodeId) {
    if state.node(node).is_some_and(|node| node.scheduling != Scheduling::Open) {
        return;
    }
    let at = state.meta.time;
    let charge = Charge { at, reason: Reason::NodeLost, blame: Blame::Platform, member: None };
    add(state, changed, node, limits::DISCREDIT_LOST_MILLI, charge);
}

fn add(state: &mut State, changed: &mut Changed, id: NodeId, more_milli: u64, charge: Charge) {
    if state.version() < ClusterVersion::ACCESS {
        return;
    }
    let now = state.meta.time;
    let before = state.node(id).and_then(|node| node.discredit.as_deref());
    let known = before.map_or(0, |before| points_at(before, now));
    let points_milli = known.saturating_add(more_milli).min(limits::DISCREDIT_MILLI);
    let mut recent = before.map_or_else(Vec::new, |before| before.recent.clone());
    recent.push(charge);
    recent.drain(..recent.len().saturating_sub(limits::CHARGES));
    let discredit = Discredit { points_milli, at: now, standing: Standing::Trusted, until: now, recent };
    set(state, changed, id, Some(discredit));
}

/// Holds nothing against a node any more.
pub(crate) fn forgive(state: &mut State, changed: &mut Changed, id: NodeId) {
    set(state, changed, id, None);
}

/// A node has begun or ceased to be up and open, or came, or is about to go.
pub(crate) fn openness_changed(state: &mut State, changed: &mut Changed, id: NodeId) {
    let open = state.node(id).is_some_and(|node| node.is_open());
    match open {
        true => drop(state.indexes.open_nodes.insert(id)),
        false => drop(state.indexes.open_nodes.remove(&id)),
    }
    if let Some(discredit) = state.node(id).and_then(|node| node.discredit.clone()) {
        set(state, changed, id, Some(Arc::unwrap_or_clone(discredit)));
    }
    while state.indexes.shunned.len() * limits::SHUNNED_OF > state.indexes.open_nodes.len()
        && let Some((_, first)) = state.indexes.shunned.get_min().copied()
        && let Some(discredit) = state.node(first).and_then(|node| node.discredit.clone())
    {
        set_as(state, changed, first, Arc::unwrap_or_clone(discredit), Standing::Avoided);
    }
}

/// Less follows for the node whose time was up first; whether there was one.
pub(crate) fn settle_due(state: &mut State, changed: &mut Changed) -> bool {
    let now = state.meta.time;
    let due = state.indexes.discredited.get_min().filter(|(until, _)| *until <= now).copied();
    let Some((_, id)) = due else { return false };
    let discredit = state.node(id).and_then(|node| node.discredit.clone()).expect("a discredited node has a record");
    let left = points_at(&discredit, now) >= limits::DISCREDIT_FORGOTTEN_MILLI;
    set(state, changed, id, left.then(|| Arc::unwrap_or_clone(discredit)));
    true
}

/// What is held against a node from now on, and what follows from it now.
fn set(state: &mut State, changed: &mut Changed, id: NodeId, discredit: Option<Discredit>) {
    let Some(discredit) = discredit else { return replace(state, changed, id, None) };
    let points = points_at(&discredit, state.meta.time);
    let standing = match points {
        limits::SHUNNED_MILLI.. if may_shun(state, id) => Standing::Shunned,
        limits::AVOIDED_MILLI.. => Standing::Avoided,
        _ => Standing::Trusted,
    };
    set_as(state, changed, id, discredit, standing);
}

fn set_as(state: &mut State, changed: &mut Changed, id: NodeId, discredit: Discredit, standing: Standing) {
    let below = match standing {
        Standing::Shunned => limits::SHUNNED_MILLI,
        Standing::Avoided => limits::AVOIDED_MILLI,
        Standing::Trusted => limits::DISCREDIT_FORGOTTEN_MILLI,
    };
    let until = falls_below(&discredit, below, state.meta.time);
    replace(state, changed, id, Some(Discredit { standing, until, ..discredit }));
}

fn may_shun(state: &State, id: NodeId) -> bool {
    let open = state.indexes.open_nodes.contains(&id);
    let shunned = state.node(id).is_some_and(|node| node.standing() == Standing::Shunned);
    let others = state.indexes.shunned.len() - usize::from(shunned);
    open && (others + 1) * limits::SHUNNED_OF <= state.indexes.open_nodes.len()
}

fn replace(state: &mut State, changed: &mut Changed, id: NodeId, discredit: Option<Discredit>) {
    let node = state.node(id).expect("the caller looked it up").clone();
    if node.discredit.as_deref() == discredit.as_ref() {
        return;
    }
    if let Some(before) = &node.discredit {
        state.indexes.discredited.remove(&(before.until, id));
        state.indexes.shunned.remove(&(before.until, id));
    }
    let before = node.standing();
    let record = Arc::make_mut(state.nodes.get_mut(&id).expect("it was just looked at"));
    record.discredit = discredit.map(Arc::new);
    let now = record.standing();
    note(&mut state.indexes, id, &state.nodes[&id]);
    if now == Standing::Shunned && before != now {
        claims::fall_on(state, changed, id);
    }
    changed.nodes.insert(id);
    changed.placement |= now < before;
}

/// Notes in the indexes what follows for a node.
pub(crate) fn note(indexes: &mut Indexes, id: NodeId, node: &Node) {
    let Some(discredit) = &node.discredit else { return };
    indexes.discredited.insert((discredit.until, id));
    if discredit.standing == Standing::Shunned {
        indexes.shunned.insert((discredit.until, id));
    }
}

/// Thousandths of a point that are held against a node at a time that is not before it was charged last.
pub fn points_at(discredit: &Discredit, now: TimeMs) -> u64 {
    let left = decay::left_of(now.0.saturating_sub(discredit.at.0), limits::DISCREDIT_HALF_LIFE_MS);
    u64::try_from(decay::of(u128::from(discredit.points_milli), left)).unwrap_or(u64::MAX)
}

/// The first moment after `now` at which less than so much is held against it.
fn falls_below(discredit: &Discredit, below_milli: u64, now: TimeMs) -> TimeMs {
    let (mut low, mut high) = (now.0, now.0.max(discredit.at.after(limits::DISCREDIT_HALF_LIFE_MS * 64).0));
    // Less is held later, so the moment is found by halving: some twenty-eight steps.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match points_at(discredit, TimeMs(middle)) < below_milli {
            true => high = middle,
            false => low = middle,
        }
    }
    TimeMs(high.max(now.0.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const H: u64 = limits::DISCREDIT_HALF_LIFE_MS;

    fn discredit(points_milli: u64, at: u64) -> Discredit {
        Discredit { points_milli, at: TimeMs(at), standing: Standing::Trusted, until: TimeMs(0), recent: vec![] }
    }

    #[test]
    fn half_is_left_after_each_half_life() {
        let it = discredit(16_000, 1_000);
        let points = [0, 1, 2, 4].map(|halves| points_at(&it, TimeMs(1_000 + halves * H)));
        assert_eq!(points, [16_000, 8_000, 4_000, 1_000]);
        assert_eq!(points_at(&it, TimeMs(1_000 + 100 * H)), 0);
        // Nothing is more at an earlier time.
        assert_eq!(points_at(&it, TimeMs(0)), 16_000);
    }

    #[test]
    fn who_is_held_as_much_against_as_may_be_is_given_work_again_after_one_half_life() {
        let it = discredit(limits::DISCREDIT_MILLI, 7);
        let until = falls_below(&it, limits::SHUNNED_MILLI, TimeMs(7));
        assert!((H..H + 200).contains(&(until.0 - 7)), "{until}");
    }

    proptest! {
        #[test]
        fn the_moment_at_which_less_is_held_is_the_first(
            points in 1u64..=limits::DISCREDIT_MILLI, at in 0..10 * H, later in 0..3 * H, below in 1u64..20_000,
        ) {
            let (it, now) = (discredit(points, at), TimeMs(at + later));
            let until = falls_below(&it, below, now);
            prop_assert!(until > now);
            prop_assert!(points_at(&it, until) < below);
            prop_assert!(until.0 == now.0 + 1 || points_at(&it, TimeMs(until.0 - 1)) >= below);
        }
    }
}
