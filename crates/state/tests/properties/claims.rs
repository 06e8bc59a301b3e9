//! Who is evicted, and what claims keep, each computed in another way than the state does it.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::*;
use flowyard_state::{State, apply};

/// What is known of claims from what happened since they were made.
#[derive(Default)]
pub(crate) struct Followed {
    /// Whether a queue was changed since, or others were made to leave for whom a reservation yields.
    claims: BTreeMap<TaskKey, bool>,
    /// How many there were.
    pub(crate) made: usize,
    /// How many of these wait for others to end.
    pub(crate) reserved: usize,
    /// How many went before a reservation that they end before.
    pub(crate) filled: usize,
    /// How many of their tasks were placed.
    pub(crate) kept: usize,
}

impl Followed {
    /// An entry was applied.
    pub(crate) fn follow(&mut self, before: &State, now: &State, command: &Command) {
        if now.version() < ClusterVersion::ACCESS {
            return;
        }
        nobody_leaves_without_a_claim(before, now, command);
        amounts_are_sums(now);
        nothing_takes_claimed_room(before, now, command);
        self.filled += starts_are_not_put_off(before, now);
        claims_fall_for_a_reason(before, now, command);
        let queues = matches!(command, Command::PutQueue(_) | Command::DropQueue { .. } | Command::PutPolicy(_));
        let is_new = |key: &TaskKey, claim: &Claim| before.claim(key) != Some(claim);
        let evicts = now.claims().any(|(key, claim)| !claim.is_reservation() && is_new(key, claim));
        let known = |key: &TaskKey| self.claims.get(key).copied();
        let claims = now.claims().map(|(key, claim)| {
            let yields = claim.is_reservation() && evicts;
            (*key, known(key).unwrap_or(false) || queues || yields)
        });
        let claims: BTreeMap<_, _> = claims.collect();
        self.made += claims.keys().filter(|key| before.claim(key).is_none()).count();
        let own = |(key, _): &(&TaskKey, &Claim)| before.claim(key).is_some() && now.claim(key).is_none();
        self.reserved += now.claims().filter(|(key, it)| it.is_reservation() && before.claim(key).is_none()).count();
        self.kept += before.claims().filter(own).filter(|(key, _)| is_active(now, **key)).count();
        self.claims = claims;
        for (key, changed) in &self.claims {
            has_its_seats_in_the_end(now, *key, *changed);
        }
    }
}

fn is_active(state: &State, key: TaskKey) -> bool {
    state.task_state(key) == Some(TaskState::Active)
}

fn lives(attempt: &Attempt) -> bool {
    attempt.members.iter().any(|member| member.phase != Phase::Ended)
}

/// Every attempt, by its task and number.
fn attempts(state: &State) -> BTreeMap<(TaskKey, AttemptNumber), &Attempt> {
    let tasks = state.jobs().flat_map(|(id, _)| state.tasks_of(id));
    tasks.flat_map(|(key, task)| task.attempts.iter().map(move |attempt| ((key, attempt.number), attempt))).collect()
}

/// Whoever is evicted leaves room that is claimed, could be evicted, and was not within its contract.
fn nobody_leaves_without_a_claim(before: &State, now: &State, command: &Command) {
    let old = attempts(before);
    for ((key, number), attempt) in attempts(now) {
        let known = old.get(&(key, number)).copied();
        let Some(Preempted { kind, by, at }) = attempt.preempted else { continue };
        if known.is_some_and(|known| known.preempted.is_some()) {
            continue;
        }
        assert!(matches!(command, Command::CommitPlan(_)), "{command:?} evicts");
        let claim = now.claim(&by).expect("there is a claim");
        assert!(claim.evictions.iter().any(|it| (it.task, it.attempt, it.kind) == (key, number, kind)));
        let known = known.expect("it was there");
        let (job, claimant) = (&now.job(key.job).unwrap().spec, &now.job(by.job).unwrap().spec);
        let spec = &job.steps[key.step.0 as usize];
        assert!(known.desired == AttemptDesired::Run && lives(known) && spec.preemptible);
        let moved = now.task(key).unwrap().attempts.iter().filter(|attempt| attempt.preempted.is_some()).count();
        assert!(moved <= 8, "{key:?} was evicted {moved} times");
        let rank = |spec: &JobSpec, step: StepIndex| spec.priority + spec.steps[step.0 as usize].priority;
        match kind {
            EvictionKind::Priority => {
                assert!(job.queue == claimant.queue && rank(job, key.step) < rank(claimant, by.step));
            }
            EvictionKind::Reclaim => assert_ne!(job.queue, claimant.queue),
        }
        let min_run = contract(now, job.queue.as_str()).min_run_ms;
        let running: Vec<u64> = known.members.iter().filter_map(|member| Some(member.times.running?.0)).collect();
        let all_run = running.len() == known.members.len();
        // What it fetches has as much time again, and five minutes at most.
        let latest = known.placed_at.0 + min_run.min(300_000);
        let since = running.into_iter().max().filter(|_| all_run).unwrap_or(latest).clamp(known.placed_at.0, latest);
        assert!(at == now.time() && since + min_run <= at.0, "{since} and {min_run} are after {at}");
    }
}

/// The contract that holds in a queue.
fn contract(state: &State, path: &str) -> Contract {
    let of = |path: &str| state.queue(&path.parse().unwrap()).and_then(|queue| queue.contract);
    match (of(path), path.rsplit_once('/')) {
        (Some(contract), _) => contract,
        (None, Some((above, _))) => contract(state, above),
        (None, None) => Contract { min_run_ms: 300_000, notice_ms: 30_000, kill_within_ms: 60_000 },
    }
}

/// CPU, members, tokens and devices of a node.
type Sum = (u64, u32, u64, BTreeMap<u32, u32>);

fn plus(sum: &mut Sum, spec: &StepSpec, gpus: &[GpuIndex]) {
    sum.0 += spec.resources.cpu_milli;
    sum.1 += 1;
    sum.2 += spec.resources.tokens.values().map(|count| u64::from(*count)).sum::<u64>();
    gpus.iter().for_each(|gpu| *sum.3.entry(gpu.0).or_default() += spec.resources.gpus[0].share_milli);
}

fn as_sum(used: Option<&Used>) -> Sum {
    let Some(used) = used else { return Sum::default() };
    let gpus = (0..).zip(&used.gpu_milli).filter(|(_, milli)| **milli > 0).map(|(at, milli)| (at, *milli));
    (used.cpu_milli, used.members, used.tokens.values().map(|count| u64::from(*count)).sum(), gpus.collect())
}

/// A reservation starts no later than it was said, and what was let before it has ended by then; how many were.
fn starts_are_not_put_off(before: &State, now: &State) -> usize {
    let mut filled = 0;
    for (key, claim) in now.claims().filter(|(_, claim)| claim.is_reservation()) {
        let Some(was) = before.claim(key).filter(|was| was.made_at == claim.made_at) else { continue };
        assert!(was.starts_at.is_none_or(|was| claim.starts_at.is_some_and(|is| is <= was)), "{key:?} is put off");
        for newcomer in claim.awaits.iter().filter(|it| !was.awaits.contains(it)) {
            let (lasts, _) = before.lasts(newcomer.task.job, newcomer.task.step).expect("it is known how long");
            let ends = now.time().0 + lasts;
            assert!(ends <= was.starts_at.expect("it is known").0, "{newcomer:?} is in the way of {key:?}");
            filled += 1;
        }
    }
    filled
}

/// Whether a claim waits for an attempt.
fn awaits(state: &State, key: TaskKey, attempt: AttemptNumber) -> bool {
    state.claims().any(|(_, claim)| claim.awaits.contains(&Awaited { task: key, attempt }))
}

/// What is claimed and what leaves is what members and claims say, on nodes and in queues, and fits.
fn amounts_are_sums(state: &State) {
    let (mut tasks, mut promised): (BTreeMap<QueuePath, BTreeSet<TaskKey>>, BTreeMap<QueuePath, u32>) =
        Default::default();
    for (key, _) in state.claims().filter(|(_, claim)| !claim.is_reservation()) {
        *promised.entry(state.job(key.job).unwrap().spec.queue.clone()).or_default() += 1;
    }
    for (id, node) in state.nodes() {
        let (mut leaving, mut claimed, mut left) = (Sum::default(), Sum::default(), Sum::default());
        let (mut awaited, mut reserved, mut then) = (Sum::default(), Sum::default(), Sum::default());
        for (key, attempt, member) in state.live_members(id) {
            let spec = state.step_spec(key.task.job, key.task.step).unwrap();
            let leaves = attempt.preempted.is_some();
            plus(if leaves { &mut leaving } else { &mut left }, spec, &member.gpus);
            match awaits(state, key.task, attempt.number) {
                true if !leaves => plus(&mut awaited, spec, &member.gpus),
                false if !leaves => plus(&mut then, spec, &member.gpus),
                _ => {}
            }
            if leaves {
                tasks.entry(state.job(key.task.job).unwrap().spec.queue.clone()).or_default().insert(key.task);
            }
        }
        for (key, claim) in state.claims() {
            let spec = state.step_spec(key.job, key.step).unwrap();
            for seat in claim.members.iter().filter(|seat| seat.node == id) {
                plus(&mut then, spec, &seat.gpus);
                if claim.is_reservation() {
                    plus(&mut reserved, spec, &seat.gpus);
                } else {
                    plus(&mut claimed, spec, &seat.gpus);
                    plus(&mut left, spec, &seat.gpus);
                }
            }
        }
        let told = [state.leaving_on(id), state.claimed_on(id), state.awaited_on(id), state.reserved_on(id)];
        assert_eq!(told.map(as_sum), [leaving, claimed.clone(), awaited, reserved.clone()], "node {id}");
        for sum in [(claimed.1 > 0).then_some(&left), (reserved.1 > 0).then_some(&then)].into_iter().flatten() {
            let fits = sum.0 <= node.inventory.cpu_milli && sum.2 <= 3 && sum.3.values().all(|milli| *milli <= 1_000);
            assert!(fits, "{sum:?} does not fit node {id}");
        }
    }
    for queue in state.queues() {
        let below = |path: &&QueuePath| queue.path.covers(path);
        let leaving = tasks.iter().filter(|(path, _)| below(path)).map(|(_, tasks)| tasks.len() as u32).sum::<u32>();
        let claimed = promised.iter().filter(|(path, _)| below(path)).map(|(_, count)| *count).sum::<u32>();
        let load = state.load(&queue.path);
        assert_eq!((load.leaving.tasks, load.claimed.tasks), (leaving, claimed), "{}", queue.path);
    }
}

/// Whoever was placed has no device that another task has a claim on, and was not let have what one needs.
fn nothing_takes_claimed_room(before: &State, now: &State, command: &Command) {
    let Command::CommitPlan(_) = command else { return };
    let old = attempts(before);
    for ((key, number), attempt) in attempts(now) {
        if old.contains_key(&(key, number)) {
            continue;
        }
        for member in &attempt.members {
            for (claimant, claim) in now.claims() {
                let theirs = claim.members.iter().filter(|seat| seat.node == member.node).flat_map(|seat| &seat.gpus);
                let taken = member.gpus.iter().find(|gpu| theirs.clone().any(|their| their == *gpu));
                let ends_before = claim.awaits.contains(&Awaited { task: key, attempt: number });
                assert!(taken.is_none() || ends_before, "{key:?} has a device that {claimant:?} claims");
            }
        }
    }
}

fn claims_fall_for_a_reason(before: &State, now: &State, command: &Command) {
    for (key, claim) in before.claims().filter(|(key, _)| now.claim(key).is_none()) {
        let runs = now.job(key.job).is_some_and(|job| job.desired == JobDesired::Run);
        let waits = runs && matches!(now.task_state(*key), Some(TaskState::Ready | TaskState::Waiting(_)));
        let dropped = matches!(command, Command::CommitPlan(plan) if plan.drops.contains(key));
        let usable = |seat: &Seat| {
            let well = |node: &Node, gpu: &GpuIndex| node.inventory.gpus[gpu.0 as usize].healthy;
            let there = |node: &Node| node.takes_work() && node.incarnation == seat.incarnation;
            let there = |node: &Node| there(node) && seat.gpus.iter().all(|gpu| well(node, gpu));
            now.node(seat.node).is_some_and(|node| there(node))
        };
        let over = *command == Command::Tick && claim.until <= now.time();
        // What counts of nodes is another thing then.
        let recounted =
            matches!(command, Command::PutPolicy(_)) && !before.policy().tokens.keys().eq(now.policy().tokens.keys());
        let falls = !waits || dropped || over || recounted || !claim.members.iter().all(usable);
        if claim.is_reservation() {
            // It yields to whom others leave for, and is made anew when what it rested on is gone.
            let moved = before.claims().count() > now.claims().count() + 1;
            let yields =
                matches!(command, Command::CommitPlan(plan) if !plan.claims.is_empty() || !plan.drops.is_empty());
            let renewed = matches!(command, Command::RegisterNode(_));
            assert!(falls || moved || yields || renewed, "{command:?} ends a reservation");
            continue;
        }
        assert!(falls, "{command:?} ends a claim");
        let longest = claim.made_at.0 + 3_600_000 + 300_000;
        assert!(claim.until.0 <= longest && claim.until.0 >= claim.made_at.0 + 300_000);
    }
}

/// Once all that leaves has left, the claim's task is taken where it was promised to be; unless a bound of its queues or its
/// step was reached otherwise.
fn has_its_seats_in_the_end(now: &State, key: TaskKey, queues_changed: bool) {
    let mut then = now.clone();
    let mut say = |command| {
        let index = Revision(then.revision().0 + 1);
        apply(&mut then, Entry { index, time: now.time(), command }).reply
    };
    for (node, record) in now.nodes() {
        let leaving = now
            .live_members(node)
            .filter(|(member, attempt, _)| attempt.preempted.is_some() || awaits(now, member.task, attempt.number));
        let reports = leaving.map(|(member, ..)| crate::history::ended(member, 22)).collect();
        say(Command::ReportAttempts(ReportAttempts { node, incarnation: record.incarnation, reports }));
    }
    let claim = now.claim(&key).unwrap();
    let placements = vec![Placement { task: key, attempt: claim.attempt, members: claim.members.clone() }];
    let based_on = now.revision();
    let reply = say(Command::CommitPlan(Plan {
        based_on,
        seed: 0,
        budget: 0,
        placer_version: 1,
        placements,
        accept_ms: None,
        claims: vec![],
        drops: vec![],
        at: None,
        made_from: None,
        repairs: Vec::new(),
    }));
    let Reply::PlanCommitted { refused, .. } = reply else { panic!("{reply:?}") };
    let bounded = queues_changed || now.step_spec(key.job, key.step).unwrap().max_parallel.is_some();
    let late = [vec![(0, Refusal::AtLimit)], vec![(0, Refusal::Claimed)]];
    let yields = claim.is_reservation() && queues_changed && late.contains(&refused);
    let fine = refused.is_empty() || yields || bounded && refused == [(0, Refusal::AtLimit)];
    assert!(fine, "{key:?} does not have its seats: {refused:?}");
    assert!(then.claim(&key).is_none() || !refused.is_empty());
}
