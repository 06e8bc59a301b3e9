//! Seats for the open ranks of running gangs. They have their turn before all that waits: what they held counts on, so it is nobody
//! else's turn to have it.
//!
//! Each goes as near as can be to the member of the lowest rank that lives: first within the lowest domain of its node, then within
//! the one above it, and so on, by best fit within each.

use std::collections::BTreeSet;

use flowyard_model::{Command, Entry, NodeId, Phase, Plan, Policy, Rank, RepairWish, Revision, StepSpec, TaskKey};
use flowyard_placement::{Bits, Near, Seated, ShapeFacts};
use flowyard_state::{State, apply};

use crate::beside::{self, Own};
use crate::keeping;
use crate::nodes::When;
use crate::scheduler::Known;
use crate::shapes;

/// Gangs that are repaired in the order in which they are given up.
const IN_ORDER: usize = 32;

impl Known {
    /// The seats that there are for open ranks, by gang; each gets as many as there are. `apply` says whether they hold. Whether all
    /// gangs were looked at within these steps.
    pub(crate) fn repair(&mut self, steps: u64) -> (Vec<RepairWish>, bool) {
        let before = std::mem::take(&mut self.kept);
        before.on.keys().for_each(|node| self.tell_node(*node, When::Now));
        let found = self.repair_all(steps);
        self.kept = keeping::kept(&self.ahead);
        let now: Vec<NodeId> = self.kept.on.keys().copied().collect();
        now.into_iter().for_each(|node| self.tell_node(node, When::Now));
        found
    }

    fn repair_all(&mut self, mut steps: u64) -> (Vec<RepairWish>, bool) {
        let mut gangs: Vec<TaskKey> = self.ahead.repairs().map(|(_, task)| task).collect();
        if gangs.len() > IN_ORDER {
            // So many are perhaps not looked at in one round: each is the first at some time.
            let first = self.ahead.revision().0 % gangs.len() as u64;
            gangs.rotate_left(first as usize);
        }
        let mut wishes = Vec::new();
        for task in gangs {
            if steps == 0 {
                return (wishes, false);
            }
            wishes.extend(self.repair_one(task, &mut steps));
        }
        (wishes, true)
    }

    fn repair_one(&mut self, task: TaskKey, steps: &mut u64) -> Option<RepairWish> {
        let state = self.ahead.clone();
        let spec = state.step_spec(task.job, task.step)?;
        let attempt = state.task(task)?.attempts.last()?;
        let open: Vec<Rank> = attempt.repair()?.open.keys().copied().collect();
        let beside = attempt.members.iter().find(|member| member.phase != Phase::Ended)?.node;
        let tags = state.job(task.job)?.spec.tags.clone();
        let own = Own { tags, key: (task.job, task.step) };
        let seated = self.seat_near(&state, (spec, &own), (beside, open.len()), steps);
        let mut places = Vec::with_capacity(open.len());
        for Seated { seats, alternative, .. } in &seated {
            places.extend(seats.iter().map(|seat| self.seat(seat, *alternative)));
        }
        let nodes: BTreeSet<NodeId> = places.iter().map(|seat| seat.node).collect();
        let seats: Vec<_> = open.into_iter().zip(places).collect();
        let wish = RepairWish { task, attempt: attempt.number, seats };
        let taken = !wish.seats.is_empty() && repaired(&mut self.ahead, wish.clone());
        // What the fleet has given out, it has as the state has it.
        nodes.into_iter().for_each(|node| self.tell_node(node, When::Now));
        taken.then_some(wish)
    }

    /// Seats up to so many members near to a node: in each domain all that are left together if it has room for them, as they would be
    /// as a gang of their own; else one by one.
    fn seat_near(
        &mut self,
        state: &State,
        (spec, own): (&StepSpec, &Own),
        (near, members): (NodeId, usize),
        steps: &mut u64,
    ) -> Vec<Seated> {
        let (mut seated, shape) = (Vec::new(), self.shapes.next());
        let Some(node) = state.node(near) else { return seated };
        let policy = state.policy().clone();
        let mut facts = shapes::facts(spec, &policy, self.classes.examples(), &mut self.words);
        facts.beside = beside::of(state, (spec, own), self.classes.examples(), &mut self.words);
        let domain = policy.domain(&node.inventory);
        for depth in (farthest(spec, &policy)..=domain.len()).rev() {
            for together in [true, false] {
                let left = (members - seated.iter().map(|it| it.seats.len()).sum::<usize>().min(members)) as u32;
                if left == 0 || *steps == 0 || (together && left == 1) {
                    continue;
                }
                let classes = self.classes.examples();
                let within = |class: usize| policy.domain(&classes[class]).starts_with(&domain[..depth]);
                let (size, tasks) = if together { (left, 1) } else { (1, left) };
                self.fleet.put_shape(shape, of_size(size, &facts, classes.len(), within));
                self.fleet.seat(shape, tasks, None, steps, &mut seated);
                facts.beside.spread = self.fleet.spread_of(shape).cloned();
                self.fleet.drop_shape(shape);
            }
        }
        seated
    }
}

/// The depth of the largest domain in which all members have to be.
pub(crate) fn farthest(spec: &StepSpec, policy: &Policy) -> usize {
    let needed = spec.placing.near.as_ref().filter(|near| near.need);
    needed.and_then(|near| policy.depth(&near.level)).unwrap_or(0)
}

/// So many members, on nodes of these classes.
fn of_size(size: u32, facts: &ShapeFacts, classes: usize, within: impl Fn(usize) -> bool) -> ShapeFacts {
    let mut eligible = Bits::none(classes);
    (0..classes).filter(|class| facts.eligible.contains(*class) && within(*class)).for_each(|it| eligible.insert(it));
    ShapeFacts { size, near: Near::Lowest, eligible, prefer: vec![0; classes], ..facts.clone() }
}

/// Applies a repair to a state; whether it was taken.
fn repaired(state: &mut State, wish: RepairWish) -> bool {
    let generation = |state: &State, task| {
        state.task(task).and_then(|task| task.attempts.last()).map(flowyard_model::Attempt::generation)
    };
    let (task, before) = (wish.task, generation(state, wish.task));
    let plan = Plan { repairs: vec![wish], ..Plan::empty(state.revision()) };
    let entry =
        Entry { index: Revision(state.revision().0 + 1), time: state.time(), command: Command::CommitPlan(plan) };
    apply(state, entry);
    generation(state, task) != before
}
