//! What one agent should run, computed from the view; pure, and the same in the simulator.
//!
//! Invariant: everything told is a function of the view and of what was told before, so a lost session loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_cas::LiveBlobs;
use flowyard_model::{
    Attempt, AttemptDesired, Desired, DesiredMember, Digest, FanOut, Fence, Gang, GangNode, Image, Input, Item, Job,
    JobId, Member, MemberKey, Name, NodeId, Phase, ResolvedInput, StepContext, StepIndex, StopTerms, Task, TaskIndex,
    TaskKey, TaskOutcome, TaskState, Term,
};
use flowyard_state::View;

/// What one session has told its agent.
#[derive(Debug)]
pub struct Told {
    node: NodeId,
    sequence: u64,
    /// Whether each member was said to run, in which generation of its gang, or to stop.
    members: BTreeMap<MemberKey, (AttemptDesired, u32)>,
    steps: BTreeSet<(JobId, StepIndex)>,
}

impl Told {
    /// A session in which nothing was told yet.
    pub fn nothing(node: NodeId) -> Self {
        Self { node, sequence: 0, members: BTreeMap::new(), steps: BTreeSet::new() }
    }

    /// What is to be told now: everything the first time, afterwards the difference, `None` if there is none.
    pub fn next(&mut self, view: &View, term: Term) -> Option<Desired> {
        let all = self.sequence == 0;
        let fence = Fence { term, revision: view.revision() };
        let mut desired = Desired {
            fence,
            sequence: self.sequence + 1,
            all,
            steps: vec![],
            run: vec![],
            stop: vec![],
            gone: vec![],
            stop_terms: BTreeMap::new(),
        };
        let mut now = BTreeMap::new();
        for (key, attempt, member) in view.live_members(self.node) {
            let wanted = wanted(attempt, member);
            now.insert(key, wanted);
            if self.members.get(&key) == Some(&wanted) {
                continue;
            }
            match wanted.0 {
                AttemptDesired::Run => {
                    self.add_step(view, key.task, &mut desired);
                    let gang = gang(view, attempt);
                    desired.run.extend(desired_member(view, key, member).map(|told| DesiredMember { gang, ..told }));
                }
                AttemptDesired::Stop | AttemptDesired::Preempt | AttemptDesired::GiveUp => {
                    desired.stop.push(key);
                    desired.stop_terms.extend(stop_terms(view, key, attempt).map(|terms| (key, terms)));
                }
            }
        }
        desired.gone = self.members.keys().filter(|key| !now.contains_key(key)).copied().collect();
        // A context goes with the first member that needs it; the agent drops it with the last.
        let used: BTreeSet<_> = now.keys().map(|key| (key.task.job, key.task.step)).collect();
        self.steps.retain(|step| used.contains(step));
        self.members = now;
        let nothing = desired.run.is_empty() && desired.stop.is_empty() && desired.gone.is_empty();
        if nothing && !all {
            return None;
        }
        self.sequence += 1;
        Some(desired)
    }

    /// Whether the agent is to do something that it was not told: all at first, then more than to forget what is over.
    pub fn asks_for_more(&self, view: &View) -> bool {
        let is_new = |(key, attempt, member): (MemberKey, &Attempt, &Member)| {
            self.members.get(&key) != Some(&wanted(attempt, member))
        };
        self.sequence == 0 || view.live_members(self.node).any(is_new)
    }

    fn add_step(&mut self, view: &View, task: TaskKey, desired: &mut Desired) {
        if self.steps.insert((task.job, task.step)) {
            desired.steps.extend(step_context(view, task.job, task.step).map(Arc::new));
        }
    }
}

/// What is wanted of a member, and in which generation of its gang. Who is to stop need not know who came.
fn wanted(attempt: &Attempt, member: &Member) -> (AttemptDesired, u32) {
    let wanted = attempt.desired_of(member);
    (wanted, if wanted == AttemptDesired::Run { attempt.generation() } else { 0 })
}

/// How a member is asked to stop whose attempt was evicted: as its queue's contract says. Whatever stops it for another reason does so
/// as its step says.
fn stop_terms(view: &View, key: MemberKey, attempt: &Attempt) -> Option<StopTerms> {
    attempt.preempted.filter(|_| attempt.desired == AttemptDesired::Preempt)?;
    let contract = view.contract(&view.outline(key.task.job)?.spec.queue);
    Some(StopTerms { notice_ms: Some(contract.notice_ms), kill_within_ms: Some(contract.kill_within_ms) })
}

/// The context of one step.
pub fn step_context(view: &View, job_id: JobId, step: StepIndex) -> Option<StepContext> {
    let job = view.job(job_id)?;
    let spec = job.spec.steps.get(step.0 as usize)?.clone();
    let lists = job.spec.steps.iter().filter_map(|other| match &other.fan_out {
        FanOut::Output { step: source, output } if *source == step => Some(output.clone()),
        _ => None,
    });
    Some(StepContext {
        job: job_id,
        step,
        job_name: job.spec.name.clone(),
        lists: lists.collect(),
        params: job.spec.params.clone(),
        owner: job.owner.clone(),
        spec,
    })
}

fn desired_member(view: &View, key: MemberKey, member: &Member) -> Option<DesiredMember> {
    let job = view.job(key.task.job)?;
    let spec = job.spec.steps.get(key.task.step.0 as usize)?;
    let inputs = spec.inputs.iter().filter_map(|(name, input)| {
        let resolved = match input {
            Input::Stored { manifest } => Some(ResolvedInput::Artifact(*manifest)),
            Input::Output { step, output } => from_step(view, &job, key.task, *step, output),
        };
        Some((name.clone(), resolved?))
    });
    Some(DesiredMember {
        key,
        gpus: member.gpus.clone(),
        gpu_alternative: member.gpu_alternative,
        inputs: inputs.collect(),
        item: item(view, &job, key.task),
        known: member.phase,
        gang: None,
    })
}

/// What each member of a gang is told of it: members on one node have consecutive ranks, unless they came in the place of others.
fn gang(view: &View, attempt: &Attempt) -> Option<Gang> {
    let main_port = attempt.main_port?;
    let mut nodes: Vec<GangNode> = Vec::new();
    for members in attempt.members.chunk_by(|one, next| one.node == next.node) {
        // A node that was removed has none of those that live.
        let node = view.node(members.first()?.node);
        let name = node.map_or_else(|| "gone".parse().ok(), |node| Some(node.name.clone()))?;
        let rendezvous = node.and_then(|node| node.inventory.rendezvous.as_ref());
        let address = rendezvous.map_or_else(String::new, |it| it.address.clone());
        nodes.push(GangNode { name, address, members: members.len() as u32 });
    }
    let mut vacant = attempt.surgery.as_ref().map_or_else(BTreeSet::new, |surgery| surgery.vacant.clone());
    // Nobody has those that are open, either; once somebody does, there is another generation.
    vacant.extend(attempt.repair().into_iter().flat_map(|repair| repair.open.keys().copied()));
    Some(Gang { nodes, main_port, generation: attempt.generation(), vacant })
}

/// What the live allocations of a node name: code, image, inputs, items.
pub fn allocated(view: &View, node: NodeId) -> LiveBlobs {
    let mut named = LiveBlobs::default();
    for (key, _, member) in view.live_members(node) {
        let spec = view.step_spec(key.task.job, key.task.step);
        if let Some(spec) = spec {
            named.manifests.extend(spec.code);
            if let Image::Stored { manifest, .. } = &spec.image {
                named.manifests.push(*manifest);
            }
        }
        let Some(desired) = desired_member(view, key, member) else { continue };
        for input in desired.inputs.into_values() {
            match input {
                ResolvedInput::Artifact(manifest) => named.manifests.push(manifest),
                ResolvedInput::Join { entries, .. } => {
                    named.manifests.extend(entries.into_iter().map(|(_, manifest)| manifest));
                }
            }
        }
        if let Some(Item::Listed { items, .. }) = desired.item {
            named.blobs.push(items);
        }
    }
    named
}

/// What a step wrote, as another one reads it. `None` when its only task did not succeed: the input is then absent.
fn from_step(view: &View, job: &Job, reader: TaskKey, source: StepIndex, output: &Name) -> Option<ResolvedInput> {
    let spec = job.spec.steps.get(source.0 as usize)?;
    let of = |task| artifact(view, TaskKey { job: reader.job, step: source, task }, output);
    let each = matches!(job.spec.steps[reader.step.0 as usize].fan_out, FanOut::Each { step } if step == source);
    if each {
        return of(reader.task).map(ResolvedInput::Artifact);
    }
    if spec.fan_out == FanOut::Single {
        return of(TaskIndex(0)).map(ResolvedInput::Artifact);
    }
    let count = view.step(reader.job, source)?.count.unwrap_or(0);
    let entries = (0..count).map(TaskIndex).filter_map(|task| Some((task, of(task)?)));
    Some(ResolvedInput::Join { count, entries: entries.collect() })
}

/// The artifact that a task that succeeded wrote under a name.
fn artifact(view: &View, key: TaskKey, output: &Name) -> Option<Digest> {
    let end = success(view.task(key)?)?.end.as_ref()?;
    Some(end.outputs.get(output)?.manifest)
}

/// The first member of the attempt that made a task succeed.
pub fn success(task: &Task) -> Option<&Member> {
    if task.state != TaskState::Done(TaskOutcome::Succeeded) {
        return None;
    }
    task.attempts
        .last()
        .and_then(|attempt: &Attempt| attempt.members.first())
        .filter(|member| member.phase == Phase::Ended)
}

/// The item of a task, following `each` to where it comes from.
fn item(view: &View, job: &Job, key: TaskKey) -> Option<Item> {
    let spec = job.spec.steps.get(key.step.0 as usize)?;
    match &spec.fan_out {
        FanOut::Single => None,
        FanOut::Range { start, .. } => Some(Item::Number(start + i64::from(key.task.0))),
        FanOut::Items(list) => Some(Item::Listed { items: list.items, position: key.task.0 }),
        FanOut::Output { .. } => {
            let step = view.step(key.job, key.step)?;
            let after = step.segments.partition_point(|segment| segment.start <= key.task);
            let segment = step.segments.get(after.checked_sub(1)?)?;
            Some(Item::Listed { items: segment.list.items, position: key.task.0 - segment.start.0 })
        }
        FanOut::Each { step } => item(view, job, TaskKey { step: *step, ..key }),
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{
        AttemptNumber, ClaimWish, ClusterVersion, Command, Contract, Entry, Eviction, EvictionKind, Health,
        Incarnation, JobSpec, Placement, Plan, Queue, QueuePath, Rank, Rendezvous, RepairWish, Replace, Revision, Seat,
        StepSpec, SubmitJob, TimeMs,
    };
    use flowyard_state::State;

    use super::*;
    use crate::fixture;

    fn perform(state: &mut State, command: Command) {
        let index = Revision(state.revision().0 + 1);
        flowyard_state::apply(state, Entry { index, time: TimeMs(1), command });
    }

    /// Two nodes.
    fn cluster() -> State {
        let mut state = State::new();
        perform(&mut state, Command::RaiseVersion { version: ClusterVersion::ACCESS });
        for name in ["n1", "n2"] {
            let mut wish = fixture::registration(name);
            let inventory = Arc::make_mut(&mut wish.inventory);
            let ports = inventory.rendezvous.as_ref().expect("it knows gangs").ports;
            inventory.rendezvous = Some(Rendezvous { address: format!("{name}.lab"), ports });
            perform(&mut state, Command::RegisterNode(wish));
        }
        state
    }

    fn submit(state: &mut State, size: u32, priority: i32) {
        let spec = fixture::spec("default", StepSpec { size, ..fixture::step(1) });
        let spec = Arc::new(JobSpec { priority, ..spec });
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        perform(state, Command::SubmitJob(SubmitJob { spec, spec_digest, owner: "me".to_owned(), key: None }));
    }

    fn task(job: u64) -> TaskKey {
        TaskKey { job: JobId(job), step: StepIndex(0), task: TaskIndex(0) }
    }

    fn seats(nodes: &[u64]) -> Vec<Seat> {
        let seat = |node: &u64| {
            let (node, incarnation) = (NodeId(*node), Incarnation(1));
            Seat { node, incarnation, gpus: vec![], gpu_alternative: 0 }
        };
        nodes.iter().map(seat).collect()
    }

    fn commit(state: &mut State, placements: Vec<Placement>, claims: Vec<ClaimWish>) {
        let (based_on, drops) = (state.revision(), vec![]);
        let plan = Plan {
            based_on,
            seed: 0,
            budget: 0,
            placer_version: 0,
            placements,
            accept_ms: None,
            claims,
            drops,
            at: None,
            made_from: None,
            repairs: Vec::new(),
        };
        perform(state, Command::CommitPlan(plan));
    }

    fn placed(state: &mut State, nodes: &[u64]) {
        let placement = Placement { task: task(1), attempt: AttemptNumber(1), members: seats(nodes) };
        commit(state, vec![placement], vec![]);
    }

    #[test]
    fn an_agent_waits_for_what_it_is_to_do_and_not_to_forget_what_is_over() {
        let mut state = cluster();
        let mut told = Told::nothing(NodeId(1));
        assert!(told.asks_for_more(&state.view()), "it was told nothing yet");
        told.next(&state.view(), Term(1)).expect("all there is");
        assert!(!told.asks_for_more(&state.view()), "nothing has changed");
        submit(&mut state, 1, 0);
        placed(&mut state, &[1]);
        assert!(told.asks_for_more(&state.view()), "it is to begin a task");
        told.next(&state.view(), Term(1)).expect("the task");
        perform(&mut state, Command::CancelJob { job: JobId(1) });
        assert!(told.asks_for_more(&state.view()), "it is to stop it");
        told.next(&state.view(), Term(1)).expect("its stop");
        perform(
            &mut state,
            Command::SetNodeHealth { node: NodeId(1), incarnation: Incarnation(1), health: Health::Down },
        );
        assert!(!told.asks_for_more(&state.view()), "it only has to forget it");
        let desired = told.next(&state.view(), Term(1)).expect("that it is over");
        assert_eq!((desired.gone.len(), desired.run.len(), desired.stop.len()), (1, 0, 0));
    }

    #[test]
    fn every_agent_of_a_gang_is_told_where_all_members_are_and_where_they_meet() {
        let mut state = cluster();
        submit(&mut state, 3, 0);
        placed(&mut state, &[2, 1, 2]);
        let view = state.view();
        let told = |node| Told::nothing(NodeId(node)).next(&view, Term(1)).expect("something").run;
        let (first, second) = (told(2), told(1));
        let ranks = |run: &[DesiredMember]| run.iter().map(|member| member.key.rank).collect::<Vec<_>>();
        assert_eq!((ranks(&first), ranks(&second)), (vec![Rank(0), Rank(1)], vec![Rank(2)]));
        let gang = first[0].gang.as_ref().expect("it is one");
        let nodes: Vec<_> = gang.nodes.iter().map(|it| (it.name.as_str(), it.address.as_str(), it.members)).collect();
        assert_eq!(nodes, [("n2", "n2.lab", 2), ("n1", "n1.lab", 1)]);
        assert!(first.iter().chain(&second).all(|member| member.gang.as_ref() == Some(gang)));
        let port = view.live_members(NodeId(2)).find_map(|(_, attempt, _)| attempt.main_port);
        assert_eq!(Some(gang.main_port), port);
    }

    #[test]
    fn those_who_live_are_told_their_gang_anew_once_somebody_has_an_open_rank() {
        let mut state = cluster();
        let spec = fixture::spec("default", StepSpec { size: 2, ..fixture::step(1) });
        let mut spec = spec.clone();
        spec.steps[0].placing.replace = Some(Replace { within_ms: 60_000 });
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "me".to_owned(), key: None };
        perform(&mut state, Command::SubmitJob(wish));
        placed(&mut state, &[1, 2]);
        let (mut first, mut second) = (Told::nothing(NodeId(1)), Told::nothing(NodeId(2)));
        let survivor = first.next(&state.view(), Term(1)).expect("it is to run").run[0].key;
        let lost = second.next(&state.view(), Term(1)).expect("it is to run").run[0].key;
        let down = |health| Command::SetNodeHealth { node: NodeId(2), incarnation: Incarnation(1), health };
        perform(&mut state, down(Health::Down));
        assert_eq!(first.next(&state.view(), Term(1)), None, "nobody is there yet whom it could meet");
        assert_eq!(second.next(&state.view(), Term(1)).map(|desired| desired.gone), Some(vec![lost]));
        let seats = vec![(Rank(1), seats(&[1]).remove(0))];
        let wish = RepairWish { task: task(1), attempt: AttemptNumber(1), seats };
        let plan = Plan { repairs: vec![wish], ..Plan::empty(state.revision()) };
        perform(&mut state, Command::CommitPlan(plan));
        let told = first.next(&state.view(), Term(1)).expect("there is somebody new");
        let keys: Vec<_> = told.run.iter().map(|member| member.key).collect();
        assert_eq!(keys, [survivor, MemberKey { replacement: 1, ..lost }]);
        assert!(told.stop.is_empty() && told.gone.is_empty());
        let gangs: BTreeSet<_> =
            told.run.iter().map(|member| member.gang.as_ref().map(|it| (it.generation, it.size()))).collect();
        assert_eq!(gangs, BTreeSet::from([Some((1, 2))]));
        assert_eq!(first.next(&state.view(), Term(1)), None, "it is told once");
    }

    #[test]
    fn a_task_of_one_member_is_told_of_no_gang() {
        let mut state = cluster();
        submit(&mut state, 1, 0);
        placed(&mut state, &[1]);
        let run = Told::nothing(NodeId(1)).next(&state.view(), Term(1)).expect("something").run;
        assert_eq!(run.iter().map(|member| &member.gang).collect::<Vec<_>>(), [&None]);
    }

    #[test]
    fn who_is_evicted_is_told_its_contract_and_who_is_cancelled_then_is_not() {
        let mut state = cluster();
        let contract = Contract { min_run_ms: 0, notice_ms: 7_000, kill_within_ms: 9_000 };
        let queue = Queue { contract: Some(contract), ..Queue::new(QueuePath::fallback()) };
        perform(&mut state, Command::PutQueue(Arc::new(queue)));
        submit(&mut state, 1, 0);
        placed(&mut state, &[1]);
        let mut told = Told::nothing(NodeId(1));
        let key = told.next(&state.view(), Term(1)).expect("it is to run").run[0].key;
        submit(&mut state, 1, 5);
        let evictions = vec![Eviction { task: task(1), attempt: AttemptNumber(1), kind: EvictionKind::Priority }];
        let claim =
            ClaimWish { task: task(2), attempt: AttemptNumber(1), members: seats(&[1]), evictions, awaits: vec![] };
        commit(&mut state, vec![], vec![claim]);
        let desired = told.next(&state.view(), Term(1)).expect("it is to make room");
        let terms = StopTerms { notice_ms: Some(7_000), kill_within_ms: Some(9_000) };
        assert_eq!((desired.stop, desired.stop_terms), (vec![key], BTreeMap::from([(key, terms)])));
        perform(&mut state, Command::CancelJob { job: JobId(1) });
        let desired = told.next(&state.view(), Term(1)).expect("it is to stop");
        assert_eq!((desired.stop, desired.stop_terms), (vec![key], BTreeMap::new()));
    }
}
