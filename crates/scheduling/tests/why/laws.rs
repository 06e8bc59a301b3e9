//! What holds of every explanation.

use std::sync::Arc;

use flowyard_model::*;
use flowyard_scheduling::Scheduler;
use flowyard_scheduling::why::{BoundOn, Change, Explanation, Question, Start, explain};
use proptest::prelude::*;

use crate::random::recipes;
use crate::slow;
use crate::world::{BOUND, World, change_spec, key, wish};

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    /// The heart: whatever is said to help is done, and helps; and a bit less does not.
    #[test]
    fn every_fix_is_carried_out_and_the_next_round_places_the_task(recipe in recipes()) {
        let Some((world, task)) = recipe.cook() else { return Ok(()) };
        for fix in &world.explain(task).fixes {
            let mut then = world.clone();
            let task_then = match then.carry_out(task, &fix.changes) {
                Some(task) => task,
                None => resubmit(&mut then, task, &fix.changes),
            };
            prop_assert!(then.is_placed_next(task_then), "{:?}", fix);
            let less: Option<Vec<_>> = fix.changes.iter().map(slow::one_less).collect();
            if let Some(less) = less.filter(|_| fix.smallest) {
                let mut then = world.clone();
                let task_then = match then.carry_out(task, &less) {
                    Some(task) => task,
                    None => resubmit(&mut then, task, &less),
                };
                prop_assert!(!then.is_placed_next(task_then), "less would do: {:?}", fix);
            }
        }
    }

    /// What is not said to help does not: every number of devices, every constraint, that they may be anywhere on a node.
    #[test]
    fn no_smaller_number_of_devices_and_no_constraint_is_overlooked(recipe in recipes()) {
        let Some((world, task)) = recipe.cook() else { return Ok(()) };
        let told = world.explain(task);
        if told.placed.is_some() || told.cut {
            return Ok(());
        }
        let spec = world.state.step_spec(task.job, task.step).unwrap();
        let devices = (0..).zip(&spec.resources.gpus).flat_map(|(alternative, request)| {
            let from = request.count;
            (1..from).map(move |to| Change::Gpus { alternative, from, to })
        });
        let constraints = spec.constraints.iter().map(|constraint| Change::Without(constraint.clone()));
        let anywhere = (0..).zip(&spec.resources.gpus).filter_map(|(alternative, request)| {
            Some(Change::Unlinked { alternative, from: request.link.filter(|_| request.count > 1)? })
        });
        let parallel = told.reasons.parallel.is_some();
        for change in devices.chain(constraints).chain(anywhere).filter(|_| !parallel) {
            let mut then = world.clone();
            let Some(task_then) = then.carry_out(task, std::slice::from_ref(&change)) else { continue };
            let same_kind = |other: &Change| match (other, &change) {
                (Change::Gpus { alternative, to, .. }, Change::Gpus { alternative: own, to: less, .. }) => {
                    alternative == own && to >= less
                }
                (other, change) => other == change,
            };
            let is_told = told.fixes.iter().any(|fix| fix.changes.iter().any(same_kind));
            prop_assert!(is_told || !then.is_placed_next(task_then), "{:?} was overlooked", change);
        }
    }

    #[test]
    fn every_number_is_as_counted_from_what_lives(recipe in recipes()) {
        let Some((world, task)) = recipe.cook() else { return Ok(()) };
        let told = world.explain(task);
        bounds(&world, task, &told)?;
        of_its_own(&world, task, &told)?;
        kept(&world, &told)?;
        nodes(&world, task, &told)?;
        prop_assert_eq!(told.revision, world.state.revision());
        prop_assert_eq!(told.placed.is_some(), world.is_placed_next(task));
    }

    /// The start is what comes of ending everything one by one at its time.
    #[test]
    fn the_start_is_when_the_cluster_comes_to_it_if_all_takes_as_long_as_it_may(recipe in recipes()) {
        let Some((world, task)) = recipe.cook() else { return Ok(()) };
        // What starts now runs at once in a forecast, and never in these worlds.
        if !world.state.policy().throttle.is_none() {
            return Ok(());
        }
        match world.explain(task).start {
            Start::Now => prop_assert!(world.is_placed_next(task)),
            Start::At { at, joined: false, .. } => prop_assert_eq!(lived(&world, task), Some(at)),
            Start::NoTimeout { whose, all } => {
                prop_assert!(lived(&world, task).is_none());
                prop_assert!(whose.len() as u64 == all.min(3));
            }
            Start::NotEvenThen => prop_assert!(lived(&world, task).is_none()),
            Start::OnceRunning { .. } => prop_assert!(false, "there is no throttle"),
            Start::At { joined: true, .. } | Start::Beyond(_) | Start::StopsBefore(_) => {}
        }
    }

    /// Before a job is submitted, it is told the same as after.
    #[test]
    fn a_job_is_told_the_same_before_it_is_submitted_as_after(recipe in recipes()) {
        let Some((mut world, task)) = recipe.cook() else { return Ok(()) };
        let job = world.state.job(task.job).unwrap().clone();
        let question =
            Question::Submission { wish: wish(&job.owner, JobSpec::clone(&job.spec)), step: StepIndex(0) };
        let now = TimeMs(world.now + 1);
        let before = explain(&world.state, &question, now).unwrap();
        let id = world.submit_job(&job.owner, JobSpec::clone(&job.spec));
        let after = explain(&world.state, &Question::Waiting(key(id, 0)), now).unwrap();
        prop_assert_eq!(&before.placed, &after.placed);
        prop_assert_eq!(&before.reasons, &after.reasons);
        prop_assert_eq!(&before.position, &after.position);
        prop_assert_eq!(&before.start, &after.start);
        for fix in &before.fixes {
            let mut then = JobSpec::clone(&job.spec);
            fix.changes.iter().for_each(|change| change_spec(&mut then, change));
            prop_assert_eq!(fix.nodes.len(), then.steps[0].size as usize);
        }
    }
}

/// As [`World::carry_out`], where something of the step runs, which would be stopped: only those that wait are taken out.
fn resubmit(world: &mut World, task: TaskKey, changes: &[Change]) -> TaskKey {
    let job = world.state.job(task.job).unwrap().clone();
    let counts = world.state.step(task.job, task.step).unwrap().counts;
    let rank = world.rank(task);
    let mut spec = JobSpec::clone(&job.spec);
    changes.iter().for_each(|change| change_spec(&mut spec, change));
    spec.steps[0].fan_out = FanOut::Range { start: 0, count: counts.ready };
    spec.steps[0].max_parallel = spec.steps[0].max_parallel.map(|most| most - counts.active);
    world.state = world.state.withdrawn(task.job, task.step);
    let Reply::Submitted { job, .. } = world.perform(Command::SubmitJob(wish(&job.owner, spec))) else { panic!() };
    // What runs of the step counts, too.
    world.state.count_as((task.job, task.step), (job, StepIndex(0)));
    key(job, rank)
}

fn bounds(world: &World, task: TaskKey, told: &Explanation) -> Result<(), TestCaseError> {
    let job = world.state.job(task.job).unwrap();
    let spec = &job.spec.steps[0];
    for bound in &told.reasons.bounds {
        let held = slow::held(&world.state, &bound.queue, &bound.on);
        prop_assert_eq!(bound.held, held.iter().map(|(_, held)| held).sum::<u64>());
        let mut holders: Vec<_> =
            bound.holders.iter().map(|it| ((it.queue.clone(), it.owner.clone()), it.held)).collect();
        prop_assert!(holders.is_sorted_by_key(|(_, held)| std::cmp::Reverse(*held)));
        holders.sort();
        prop_assert_eq!(holders, held);
        let without = world.state.without_claim(task);
        let (kept, kept_for) = slow::kept(&without, &bound.queue, &bound.on);
        prop_assert!(bound.kept == kept, "{:?} keeps {}", bound, kept);
        let mut told: Vec<_> =
            bound.kept_for.iter().map(|it| ((it.queue.clone(), it.owner.clone()), it.held)).collect();
        told.sort();
        prop_assert_eq!(told, if kept > 0 { kept_for } else { vec![] });
        prop_assert_eq!(bound.need, slow::needed(spec, bound.alternative, &bound.on));
        let queue = world.state.queue(&bound.queue).unwrap();
        let most = match &bound.on {
            BoundOn::Tasks => queue.max_active.map(u64::from),
            BoundOn::Limit(resource) => queue.limit.get(resource.column()),
            BoundOn::NoPreempt(resource) => queue.no_preempt.get(resource.column()),
            BoundOn::Borrow(resource) => {
                let column = resource.column();
                queue.borrow.get(column).map(|borrow| borrow + queue.reserve.promised(column))
            }
            BoundOn::Cluster(_) => world.state.policy().tokens.values().next().copied(),
            BoundOn::NoQuota(_) => Some(0),
        };
        prop_assert_eq!(Some(bound.most), most);
        prop_assert!(bound.held + bound.kept + bound.need > bound.most && bound.queue.covers(&job.spec.queue));
    }
    Ok(())
}

/// What keeps a task out of its own step or job, and how many of its members find room together.
fn of_its_own(world: &World, task: TaskKey, told: &Explanation) -> Result<(), TestCaseError> {
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    let live: Vec<_> = world.live().into_iter().filter(|(_, key)| key.task.job == task.job).collect();
    let active: std::collections::BTreeSet<_> = live.iter().map(|(_, key)| key.task).collect();
    let (active, before) = (active.len() as u32, world.rank(task));
    let parallel = spec.max_parallel.filter(|most| active + before >= *most);
    let told_parallel = told.reasons.parallel.map(|it| (it.active, it.before, it.most));
    prop_assert_eq!(told_parallel, parallel.map(|most| (active, before, most)));
    // Nothing of these worlds has begun to run.
    let starting = live.len() as u32;
    let per_job = world.state.policy().throttle.per_job;
    let throttled = per_job.filter(|most| starting > 0 && starting + spec.size > *most);
    let told_throttled = told.reasons.throttled.map(|it| (it.starting, it.most));
    prop_assert_eq!(told_throttled, throttled.map(|most| (starting, most)));
    if spec.resources.gpus.is_empty() && spec.placing == Placing::default() && world.state.claims().next().is_none() {
        let room = |(id, node): (NodeId, &Arc<Node>)| {
            let used = slow::counted(world, task, id);
            let (cpus, bytes) = (node.inventory.cpu_milli - used.cpu, node.inventory.memory_bytes - used.memory);
            (cpus / spec.resources.cpu_milli).min(bytes / spec.resources.memory_bytes)
        };
        let open = world.state.nodes().filter(|(id, node)| is_open(spec, node) && !clashes(world, task, *id));
        prop_assert_eq!(told.reasons.seats, open.map(room).sum::<u64>().min(u64::from(spec.size)));
    }
    Ok(())
}

/// What is free and kept for others.
fn kept(world: &World, told: &Explanation) -> Result<(), TestCaseError> {
    if world.state.claims().next().is_some() {
        return Ok(());
    }
    for kept in &told.reasons.kept {
        let column = kept.resource.column();
        prop_assert_eq!(kept.free, slow::free(&world.state, column));
        prop_assert_eq!(kept.kept, kept.keepers.iter().map(|(_, kept)| kept).sum::<u64>());
        prop_assert!(kept.need + kept.kept > kept.free, "{:?}", kept);
        for (path, amount) in &kept.keepers {
            let queue = world.state.queue(path).unwrap();
            let promised = queue.reserve.promised(column).min(queue.limit.get(column).unwrap_or(u64::MAX));
            let lent = queue.lend.get(column).unwrap_or(u64::MAX);
            let most = promised.saturating_sub(lent).saturating_sub(slow::held_of(&world.state, path, column));
            // Less where more is promised than there is.
            prop_assert!(*amount > 0 && *amount <= most, "{path} keeps {amount} of {most}");
        }
    }
    Ok(())
}

fn nodes(world: &World, task: TaskKey, told: &Explanation) -> Result<(), TestCaseError> {
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    prop_assert_eq!(told.reasons.nodes.all, world.state.nodes().count() as u64);
    let parallel =
        spec.max_parallel.is_some_and(|most| world.state.step(task.job, task.step).unwrap().counts.active >= most);
    if spec.size == 1 && !parallel && spec.preemptible {
        let takes = world.state.nodes().filter(|(id, _)| slow::would_take(world, task, *id)).count();
        prop_assert_eq!(told.reasons.nodes.fitting, takes as u64);
    }
    for rejection in &told.reasons.nodes.rejections {
        let is_lacking = |id: NodeId, node: &Arc<Node>| match rejection.kind {
            "apart" => is_open(spec, node) && clashes(world, task, id),
            "spread" => is_open(spec, node) && is_full(world, task, id),
            "starting" => {
                let starting = world.state.live_members(id).count() as u32;
                let most = world.state.policy().throttle.per_node;
                is_open(spec, node) && starting > 0 && most.is_some_and(|most| starting >= most)
            }
            kind => lacks(spec, node, &slow::counted(world, task, id), kind),
        };
        let lacking = world.state.nodes().filter(|(id, node)| is_lacking(*id, node));
        let lacking: Vec<_> = lacking.map(|(id, _)| id).collect();
        prop_assert_eq!(rejection.nodes, lacking.len() as u64, "{:?}", rejection);
        prop_assert_eq!(Some(&rejection.example), lacking.first());
    }
    Ok(())
}

fn is_open(spec: &StepSpec, node: &Node) -> bool {
    node.scheduling == Scheduling::Open && spec.constraints.iter().all(|constraint| constraint.holds(&node.inventory))
}

/// Whom each node has, or is promised to, beside a task: members, by node.
pub(crate) fn there(world: &World, task: TaskKey) -> Vec<(NodeId, TaskKey)> {
    let live = world.live().into_iter().map(|(node, member)| (node, member.task));
    let claims = world.state.claims().filter(|(key, _)| **key != task);
    live.chain(claims.flat_map(|(key, claim)| claim.members.iter().map(|seat| (seat.node, *key)))).collect()
}

/// Whether something is on a node, or will be, that must not be beside the task.
pub(crate) fn clashes(world: &World, task: TaskKey, node: NodeId) -> bool {
    let of = |key: TaskKey| {
        (world.state.job(key.job).unwrap().spec.tags.clone(), world.state.step_spec(key.job, key.step).unwrap())
    };
    let (tags, spec) = of(task);
    there(world, task).into_iter().filter(|(at, _)| *at == node).any(|(_, other)| {
        let top =
            |key: TaskKey| world.state.job(key.job).unwrap().spec.queue.as_str().split('/').next().map(str::to_owned);
        let is_own = top(task) == top(other);
        let (other_tags, other) = of(other);
        is_own && (!spec.placing.apart.is_disjoint(&other_tags) || !other.placing.apart.is_disjoint(&tags))
    })
}

/// Whether as many of the task's step are on a node, or in its rack, or will be, as may.
fn is_full(world: &World, task: TaskKey, node: NodeId) -> bool {
    let placing = &world.state.step_spec(task.job, task.step).unwrap().placing;
    let rack =
        |node: NodeId| world.state.node(node).unwrap().inventory.labels.get(&"rack".parse::<Name>().unwrap()).cloned();
    let is_own = |other: &TaskKey| (other.job, other.step) == (task.job, task.step);
    let own = there(world, task).into_iter().filter(|(_, other)| is_own(other));
    let own: Vec<NodeId> = own.map(|(at, _)| at).collect();
    let on_node = own.iter().filter(|at| **at == node).count() as u32;
    let in_rack = own.iter().filter(|at| rack(**at) == rack(node)).count() as u32;
    let most = placing.spread.as_ref().and_then(|spread| Some((spread.is_by_host(), spread.at_most?)));
    let is_spread_full = most.is_some_and(|(by_host, most)| if by_host { on_node >= most } else { in_rack >= most });
    is_spread_full || (placing.unique_host && on_node > 0)
}

/// Whether a node lacks something of a kind, where so much counts as held of it.
fn lacks(spec: &StepSpec, node: &Arc<Node>, used: &slow::Counted, kind: &str) -> bool {
    let (has, wants) = (&node.inventory, &spec.resources);
    let closed = node.scheduling != Scheduling::Open;
    let suits = spec.constraints.iter().all(|constraint| constraint.holds(has));
    let models = |of: &GpuRequest| has.gpus.iter().filter(|gpu| of.accepts(gpu)).count() as u32;
    let free = |of: &GpuRequest| {
        let free = |(at, gpu): &(usize, &Gpu)| of.accepts(gpu) && !used.devices.contains(at);
        has.gpus.iter().enumerate().filter(free).count() as u32
    };
    let enough = |count: &dyn Fn(&GpuRequest) -> u32| {
        wants.gpus.is_empty() || wants.gpus.iter().any(|request| count(request) >= request.count)
    };
    // Those below one switch are two that follow each other.
    let near = |of: &GpuRequest, may: &dyn Fn(usize) -> bool| {
        let good = |at: usize| has.gpus.get(at).is_some_and(|gpu| of.accepts(gpu)) && may(at);
        let pair = |first: usize| u32::from(good(first)) + u32::from(good(first + 1));
        let most = (0..has.gpus.len()).step_by(2).map(pair).max().unwrap_or(0);
        of.link.is_none() || of.count == 1 || most >= of.count
    };
    let any = |fits: &dyn Fn(&GpuRequest) -> bool| wants.gpus.is_empty() || wants.gpus.iter().any(fits);
    let ever = |of: &GpuRequest| models(of) >= of.count && near(of, &|_| true);
    let now = |of: &GpuRequest| free(of) >= of.count && near(of, &|at| !used.devices.contains(&at));
    let apart = |of: &GpuRequest| ever(of) && free(of) >= of.count;
    let open = !closed && suits;
    match kind {
        "cordoned" => closed,
        "labels" => !closed && !suits,
        "too_few_cpus" => open && wants.cpu_milli > has.cpu_milli,
        "cpus_taken" => open && wants.cpu_milli <= has.cpu_milli && wants.cpu_milli > has.cpu_milli - used.cpu,
        "too_little_memory" => open && wants.memory_bytes > has.memory_bytes,
        "memory_taken" => {
            open && wants.memory_bytes <= has.memory_bytes && wants.memory_bytes > has.memory_bytes - used.memory
        }
        "no_such_gpus" => open && !enough(&models),
        "no_such_link" => open && enough(&models) && !any(&ever),
        "gpus_taken" => open && any(&ever) && !any(&now) && !any(&apart),
        "link_taken" => open && any(&ever) && !any(&now) && any(&apart),
        other => panic!("a kind that these clusters do not have: {other}"),
    }
}

/// When a task is placed if everything ends when it has to, or is evicted for others, one after the other; `None` if nothing has to end any more before.
fn lived(world: &World, task: TaskKey) -> Option<TimeMs> {
    let mut then = World { stands_still: true, ..world.clone() };
    loop {
        // Nobody foresees what will be learned of how long steps take.
        then.state = then.state.as_learned_in(&world.state);
        then.settle();
        if then.state.task_state(task) == Some(TaskState::Active) {
            return Some(TimeMs(then.now));
        }
        let ends = next_ends(&then);
        let wake = Scheduler::new(0).round(&then.state, TimeMs(then.now), BOUND).wake_at;
        if let Some(wake) = wake.filter(|wake| ends.as_ref().is_none_or(|(at, _)| wake < at)) {
            then.now = wake.0;
            continue;
        }
        let (at, over) = ends?;
        then.now = at.0;
        over.into_iter().for_each(|(node, member)| then.end(node, member));
    }
}

pub(crate) fn next_ends(world: &World) -> Option<(TimeMs, Vec<(NodeId, MemberKey)>)> {
    let mut ends = std::collections::BTreeMap::<TimeMs, Vec<_>>::new();
    for (node, key) in world.live() {
        let spec = world.state.step_spec(key.task.job, key.task.step).unwrap();
        let attempt = world.state.attempt(key.task, key.attempt).unwrap();
        if let Some(evicted) = attempt.preempted {
            let queue = &world.state.job(key.task.job).unwrap().spec.queue;
            let grace = spec.kill_grace_ms.min(world.state.contract(queue).kill_within_ms);
            ends.entry(evicted.at.after(grace)).or_default().push((node, key));
        } else if let Some(timeout) = spec.timeout_ms {
            ends.entry(attempt.placed_at.after(timeout).after(spec.kill_grace_ms)).or_default().push((node, key));
        }
    }
    ends.into_iter().next()
}
