//! What may be beside what, in placement's words: which marks members leave on their nodes and which are avoided, and where those are that
//! run of a step already.
//!
//! Tags from which nobody keeps apart leave no marks: most tags are there to find jobs by.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{Inventory, JobSpec, NodeId, StepSpec};
use flowyard_placement::{Beside, Domain, Spread};
use flowyard_state::{State, StepKey};

use crate::nodes::{self, When};
use crate::words::{Mark, Words};

/// What tells the shape of a step from others whose specs are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Whose {
    /// The step, where it matters where its own members are.
    step: Option<StepKey>,
    /// Tags of its job from which somebody keeps apart.
    tags: Vec<String>,
    /// The tenant, where it matters what it is beside of the tenant's.
    tenant: Option<String>,
}

impl Whose {
    pub(crate) fn of(state: &State, job: &JobSpec, key: StepKey) -> Self {
        let counts_its_own = job.steps.get(key.1.0 as usize).is_some_and(|spec| spec.placing.counts_its_own());
        // Of a job that only waits, the tags are not at hand.
        let whole = state.shunned_tags().next().and_then(|_| state.job(key.0));
        let tags = whole.iter().flat_map(|job| &job.spec.tags);
        let tenant = job.queue.tenant();
        let tags: Vec<String> = tags.filter(|tag| state.is_shunned(tenant, tag)).cloned().collect();
        let shuns = job.steps.get(key.1.0 as usize).is_some_and(|spec| !spec.placing.apart.is_empty());
        let tenant = (shuns || !tags.is_empty()).then(|| tenant.to_owned());
        Self { step: counts_its_own.then_some(key), tags, tenant }
    }
}

/// Whose work is asked about.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Its tags.
    pub(crate) tags: BTreeSet<String>,
    /// Its step.
    pub(crate) key: StepKey,
}

/// What placement is told of what is beside tasks of a step.
pub(crate) fn of(
    state: &State,
    (spec, own): (&StepSpec, &Own),
    classes: &[Arc<Inventory>],
    words: &mut Words,
) -> Beside {
    let mut beside = of_spec(state, spec, classes, words);
    if let Some(job) = state.outline(own.key.0) {
        let tenant = job.spec.queue.tenant();
        beside.leaves = left(state, (tenant, spec), &own.tags, words);
        let tags = own.tags.iter().filter(|tag| state.is_shunned(tenant, tag));
        let tags = tags.map(|tag| Mark::Shuns(tenant.to_owned(), tag.clone()));
        let avoided = tags.chain(spec.placing.apart.iter().map(|tag| Mark::Tag(tenant.to_owned(), tag.clone())));
        beside.avoids = in_order(avoided.map(|mark| words.mark(mark)).collect());
    }
    let Some(spread) = &mut beside.spread else { return beside };
    for (node, count) in state.own_of(own.key) {
        let labels = spec.placing.spread.as_ref().and_then(|spread| {
            let inventory = &state.node(node)?.inventory;
            spread.labels(state.policy(), inventory)
        });
        let at = nodes::index(node);
        let domain = labels.map_or(Domain::Node(at), |labels| Domain::Of(words.spread_over(&labels)));
        *spread.there.entry(domain).or_insert(0) += count;
        if spread.one_per_node {
            spread.on.insert(at);
        }
    }
    beside
}

/// The same where nothing runs, of whoever's step it is.
pub(crate) fn of_spec(state: &State, spec: &StepSpec, classes: &[Arc<Inventory>], words: &mut Words) -> Beside {
    let placing = &spec.placing;
    let spread = || {
        let over = |spread: &flowyard_model::Spread| {
            let domains = classes.iter().map(|class| domain(state, spread, class, words)).collect();
            (domains, spread.at_most)
        };
        let (domains, at_most) = placing.spread.as_ref().map(over).unwrap_or_default();
        Spread { domains, at_most, one_per_node: placing.unique_host, ..Spread::default() }
    };
    let spread = placing.counts_its_own().then(spread);
    Beside { pack: placing.pack, spread, ..Beside::default() }
}

/// The number of the domain in which nodes of a class are.
pub(crate) fn domain(
    state: &State,
    spread: &flowyard_model::Spread,
    class: &Inventory,
    words: &mut Words,
) -> Option<u32> {
    spread.labels(state.policy(), class).map(|labels| words.spread_over(&labels))
}

/// The marks that a member of a tenant's step leaves on its node.
pub(crate) fn left(
    state: &State,
    (tenant, spec): (&str, &StepSpec),
    tags: &BTreeSet<String>,
    words: &mut Words,
) -> Vec<u32> {
    let tags = tags.iter().filter(|tag| state.is_shunned(tenant, tag));
    let tags = tags.map(|tag| Mark::Tag(tenant.to_owned(), tag.clone()));
    let marks = tags.chain(spec.placing.apart.iter().map(|tag| Mark::Shuns(tenant.to_owned(), tag.clone())));
    in_order(marks.map(|mark| words.mark(mark)).collect())
}

fn in_order(mut marks: Vec<u32>) -> Vec<u32> {
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// The marks on a node: of what lives there, and of what has a claim there.
pub(crate) fn marks(state: &State, node: NodeId, when: When, words: &mut Words) -> Vec<u32> {
    if state.shunned_tags().next().is_none() {
        return Vec::new();
    }
    let live = state
        .live_members(node)
        .filter(|(_, attempt, _)| matches!(when, When::Now | When::Before) || attempt.preempted.is_none());
    let live = live.map(|(key, ..)| key.task);
    let claimed = state.claims_on(node).flat_map(|task| {
        let seats = state.claim(&task).map_or(0, |it| it.members.iter().filter(|seat| seat.node == node).count());
        std::iter::repeat_n(task, seats)
    });
    let tasks: Vec<_> = live.chain(claimed).collect();
    let mut marks = Vec::new();
    for task in tasks {
        if let (Some(job), Some(spec)) = (state.job(task.job), state.step_spec(task.job, task.step)) {
            marks.extend(left(state, (job.spec.queue.tenant(), spec), &job.spec.tags, words));
        }
    }
    marks
}
