//! Random histories: acts that choose among what exists, and the commands they become.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::*;
use flowyard_state::{ReadyStep, State, apply};
use proptest::prelude::*;

/// The tree; none but the first is there at the start.
const QUEUES: [&str; 5] = ["default", "other", "other/a", "other/a/b", "other/c"];

/// A step of a random history. Numbers choose among what exists, so that most commands mean something.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Submit { shape: u8, keyed: bool, after: u8, retry: u8 },
    Cancel(u8),
    Register { name: u8, remembers: bool, gpus: u8 },
    Health(u8, u8),
    Drain(u8, bool),
    Close { node: u8, change: u8, life: u16 },
    Place { pick: u8, node: u8, count: u8 },
    Claim { pick: u8, node: u8, victims: u8, drop: bool },
    TakeClaim(u8),
    Repair { pick: u8, node: u8 },
    Contract { at: u8, min_run: u8 },
    Report { node: u8, pick: u8, phase: u8, stale: bool },
    Wait(u16),
    Sleep(u8),
    Tick,
    Devices { node: u8, gpu: u8, state: u8 },
    Device { node: u8, gpu: u8, out: bool },
    Queue { at: u8, most: u8, bounds: u8 },
    Policy(u8),
    Drop(u8),
    Forget(u8),
    Version(u8),
    Epoch,
    Token { join: bool, uses: u8, life: u16 },
    Use { pick: u8, key: u8 },
    Untoken(u8),
    ShutOut { who: u8, life: Option<u16> },
}

pub(crate) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (any::<u8>(), any::<bool>(), any::<u8>(), 0u8..3)
            .prop_map(|(shape, keyed, after, retry)| Act::Submit { shape, keyed, after, retry }),
        1 => any::<u8>().prop_map(Act::Cancel),
        2 => (0u8..4, any::<bool>(), 0u8..4).prop_map(|(name, remembers, gpus)| Act::Register { name, remembers, gpus }),
        1 => (0u8..4, 0u8..3).prop_map(|(node, health)| Act::Health(node, health)),
        1 => (0u8..4, any::<bool>()).prop_map(|(node, drained)| Act::Drain(node, drained)),
        2 => (0u8..4, 0u8..11, 0u16..3_000).prop_map(|(node, change, life)| Act::Close { node, change, life }),
        8 => (any::<u8>(), 0u8..4, 1u8..6).prop_map(|(pick, node, count)| Act::Place { pick, node, count }),
        6 => (any::<u8>(), 0u8..4, 0u8..5, prop::bool::weighted(0.2))
            .prop_map(|(pick, node, victims, drop)| Act::Claim { pick, node, victims, drop }),
        3 => any::<u8>().prop_map(Act::TakeClaim),
        1 => (any::<u8>(), 0u8..4).prop_map(|(pick, node)| Act::Repair { pick, node }),
        1 => (any::<u8>(), 0u8..4).prop_map(|(at, min_run)| Act::Contract { at, min_run }),
        12 => (0u8..4, any::<u8>(), 0u8..24, prop::bool::weighted(0.05))
            .prop_map(|(node, pick, phase, stale)| Act::Report { node, pick, phase, stale }),
        1 => (0u16..5_000).prop_map(Act::Wait),
        1 => any::<u8>().prop_map(Act::Sleep),
        2 => Just(Act::Tick),
        2 => (0u8..4, 0u8..5, 0u8..3).prop_map(|(node, gpu, state)| Act::Devices { node, gpu, state }),
        1 => (0u8..4, 0u8..5, any::<bool>()).prop_map(|(node, gpu, out)| Act::Device { node, gpu, out }),
        2 => (any::<u8>(), 1u8..9, any::<u8>()).prop_map(|(at, most, bounds)| Act::Queue { at, most, bounds }),
        1 => (0u8..8).prop_map(Act::Policy),
        1 => any::<u8>().prop_map(Act::Drop),
        1 => any::<u8>().prop_map(Act::Forget),
        1 => (1u8..3).prop_map(Act::Version),
        1 => Just(Act::Epoch),
        2 => (any::<bool>(), 0u8..4, 0u16..3_000).prop_map(|(join, uses, life)| Act::Token { join, uses, life }),
        3 => (any::<u8>(), 0u8..6).prop_map(|(pick, key)| Act::Use { pick, key }),
        1 => any::<u8>().prop_map(Act::Untoken),
        1 => (0u8..8, prop::option::of(0u16..3_000)).prop_map(|(who, life)| Act::ShutOut { who, life }),
    ]
}

/// Acts of a cluster that is full, so that much is evicted; all others come to pass, too.
pub(crate) fn crowded_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0u8..8, any::<bool>(), 0u8..3).prop_map(|(shape, same, retry)| Act::Submit {
            shape: if same { shape * 30 } else { shape * 7 },
            keyed: false,
            after: 255,
            retry,
        }),
        8 => (any::<u8>(), 0u8..3, 1u8..6).prop_map(|(pick, node, count)| Act::Place { pick, node, count }),
        10 => (any::<u8>(), 0u8..3, 1u8..6, prop::bool::weighted(0.1))
            .prop_map(|(pick, node, victims, drop)| Act::Claim { pick, node, victims, drop }),
        4 => any::<u8>().prop_map(Act::TakeClaim),
        10 => (0u8..3, any::<u8>(), prop_oneof![4 => 0u8..3, 1 => 4u8..24]).prop_map(|(node, pick, phase)| Act::Report {
            node,
            pick,
            phase,
            stale: false,
        }),
        3 => (0u16..400).prop_map(Act::Wait),
        3 => act(),
    ]
}

/// Acts of a cluster that runs gangs and loses nodes, devices and members; all others come to pass, too.
pub(crate) fn losing_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0u8..8, 0u8..8, 0u8..3).prop_map(|(more, turn, retry)| Act::Submit {
            shape: 16 + more + 32 * (turn % 7),
            keyed: false,
            after: 255,
            retry,
        }),
        6 => (any::<u8>(), 0u8..3, 1u8..4).prop_map(|(pick, node, count)| Act::Place { pick, node, count }),
        8 => (any::<u8>(), 0u8..4).prop_map(|(pick, node)| Act::Repair { pick, node }),
        2 => (0u8..4).prop_map(|node| Act::Health(node, 2)),
        3 => (0u8..4, any::<bool>(), 0u8..4).prop_map(|(name, remembers, gpus)| Act::Register { name, remembers, gpus }),
        2 => (0u8..4, 2u8..9, 0u16..300).prop_map(|(node, change, life)| Act::Close { node, change, life }),
        8 => (0u8..4, any::<u8>(), prop_oneof![4 => 0u8..3, 1 => 4u8..24]).prop_map(|(node, pick, phase)| Act::Report {
            node,
            pick,
            phase,
            stale: false,
        }),
        2 => (0u16..400).prop_map(Act::Wait),
        2 => act(),
    ]
}

pub(crate) struct History {
    pub(crate) state: State,
    pub(crate) time: u64,
}

impl History {
    pub(crate) fn command(&mut self, act: &Act) -> Command {
        let node = |number: u8| NodeId(u64::from(number) + 1);
        let incarnation = |number: u8| self.state.node(node(number)).map_or(Incarnation(1), |node| node.incarnation);
        match *act {
            Act::Submit { shape, keyed, after, retry } => self.submit(shape, keyed, after, retry),
            Act::Cancel(job) => Command::CancelJob { job: self.some_job(job) },
            Act::Register { name, remembers, gpus } => {
                let name: Name = format!("n{name}").parse().unwrap();
                let known = self.state.node_named(&name).map(|(id, node)| (id, node.incarnation));
                let previous = known.filter(|_| remembers);
                Command::RegisterNode(RegisterNode { name, inventory: Arc::new(inventory(gpus)), previous })
            }
            Act::Health(number, health) => Command::SetNodeHealth {
                node: node(number),
                incarnation: incarnation(number),
                health: [Health::Up, Health::Suspect, Health::Down][health as usize],
            },
            Act::Drain(number, drained) => drain(node(number), drained),
            Act::Close { node: number, change, life } => Command::ChangeNode(ChangeNode {
                node: node(number),
                change: node_change(change, TimeMs(self.time + u64::from(life))),
                by: "ops".to_owned(),
                reason: String::new(),
            }),
            Act::Place { pick, node, count } => self.place(pick, node, count),
            Act::Claim { pick, node, victims, drop } => self.claim(pick, node, victims, drop),
            Act::TakeClaim(pick) => self.take_claim(pick),
            Act::Repair { pick, node } => self.repair(pick, node),
            Act::Contract { at, min_run } => self.contract(at, min_run),
            Act::Report { node: number, pick, phase, stale } => {
                let of = |number: u8, stale: bool| ReportAttempts {
                    node: node(number),
                    incarnation: Incarnation(incarnation(number).0 - u64::from(stale)),
                    reports: self.report(node(number), pick, phase).into_iter().collect(),
                };
                let together = pick.is_multiple_of(3) && self.state.version() >= ClusterVersion::ACCESS;
                match together {
                    // Node 9 is not there.
                    true => Command::ReportMany([number, 8, (number + 1) % 4].map(|it| of(it, stale)).into()),
                    false => Command::ReportAttempts(of(number, stale)),
                }
            }
            Act::Wait(more) => self.wait(u64::from(more)),
            Act::Sleep(hours) => self.wait(u64::from(hours) * 3_600_001),
            Act::Tick => {
                self.time = self.state.next_deadline().map_or(self.time, |due| due.0.max(self.time));
                Command::Tick
            }
            Act::Devices { node: number, gpu, state } => devices(node(number), incarnation(number), gpu, state),
            Act::Device { node: number, gpu, out } => device(node(number), gpu, out),
            Act::Queue { at, most, bounds } => self.queue(at, most, bounds),
            // Of the token that nodes have as well.
            Act::Policy(count) => policy(count),
            Act::Drop(at) => Command::DropQueue { path: QUEUES[at as usize % QUEUES.len()].parse().unwrap() },
            Act::Forget(job) => Command::ForgetJobs { jobs: vec![self.some_job(job)] },
            Act::Version(version) => Command::RaiseVersion { version: ClusterVersion(u32::from(version)) },
            Act::Epoch => Command::BeginEpoch { epoch: Epoch(self.state.epoch().0 + 1) },
            Act::Token { join, uses, life } => self.token(join, uses, life),
            Act::Use { pick, key } => {
                Command::UseToken { token: self.some_token(pick), by: Fingerprint([key; 32]), who: admitted(pick, key) }
            }
            Act::Untoken(pick) => Command::RevokeToken { token: self.some_token(pick) },
            Act::ShutOut { who, life } => Command::RevokeIdentity {
                identity: identity(who),
                until: life.map(|life| TimeMs(self.time + u64::from(life))),
                by: "root".to_owned(),
            },
        }
    }

    fn wait(&mut self, more: u64) -> Command {
        self.time += more;
        Command::Tick
    }

    /// A queue of the tree, before its cluster version without amounts.
    fn queue(&self, at: u8, most: u8, bounds: u8) -> Command {
        let mut queue = Queue::new(QUEUES[at as usize % QUEUES.len()].parse().unwrap());
        queue.max_active = bounds.is_multiple_of(4).then_some(u32::from(most));
        let each = u64::from(most) * 500;
        let amounts = || QueueAmounts {
            cpu_milli: (bounds & 1 > 0).then_some(each * 2),
            memory_bytes: (bounds & 2 > 0).then_some(u64::from(most)),
            disk_bytes: None,
            gpu_milli: match bounds & 12 {
                0 => [(GpuClass::Any, each)].into(),
                4 => [(GpuClass::model("fake-0"), each)].into(),
                _ => BTreeMap::new(),
            },
            tokens: if bounds & 16 > 0 { [("x".parse().unwrap(), u64::from(most))].into() } else { BTreeMap::new() },
        };
        if self.state.version() >= ClusterVersion::ACCESS {
            match bounds >> 6 {
                0 => queue.limit = amounts(),
                1 => queue.borrow = amounts(),
                2 => (queue.reserve, queue.borrow) = (amounts(), QueueAmounts { cpu_milli: Some(each), ..amounts() }),
                _ => queue.reserve = amounts(),
            }
        }
        Command::PutQueue(queue.into())
    }

    fn some_job(&self, pick: u8) -> JobId {
        let count = self.state.job_count().max(1);
        self.state.jobs().nth(pick as usize % count).map_or(JobId(1), |(id, _)| id)
    }

    fn some_token(&self, pick: u8) -> TokenId {
        let count = self.state.tokens().count().max(1);
        self.state.tokens().nth(pick as usize % count).map_or(TokenId(1), |(id, _)| id)
    }

    fn token(&self, join: bool, uses: u8, life: u16) -> Command {
        let api = || Grant::Api { principal: "ada".parse().unwrap(), role: Role::Operator };
        Command::CreateToken(CreateToken {
            hash: Fingerprint([uses; 32]),
            grant: if join { Grant::Join(Joiner::Agent) } else { api() },
            expires_at: TimeMs(self.time + u64::from(life)),
            uses: join.then_some(u32::from(uses)),
            created_by: "root".to_owned(),
        })
    }

    fn submit(&self, shape: u8, keyed: bool, after: u8, retry: u8) -> Command {
        let after = if after < 60 { vec![self.some_job(after)] } else { vec![] };
        // Others wait for jobs of the queue that nobody drops.
        let elsewhere = after.is_empty() && shape.is_multiple_of(5);
        let queue = if elsewhere { QUEUES[(shape / 5) as usize % QUEUES.len()] } else { "default" };
        let spec = JobSpec {
            name: "j".parse().unwrap(),
            queue: queue.parse().unwrap(),
            priority: i32::from(shape) % 3,
            tags: BTreeSet::new(),
            params: BTreeMap::new(),
            steps: steps(shape, retry),
            after,
            retention_ms: Some(u64::from(shape) * 100),
            deadline_ms: (shape >= 230).then_some(u64::from(shape)),
            queue_ttl_ms: (shape.is_multiple_of(11)).then_some(u64::from(retry) + 1),
        };
        let key = keyed.then(|| format!("k{}", shape % 8));
        let spec_digest = Digest { hash: [shape; 32], length: 1 };
        let owner = if shape.is_multiple_of(4) { "you" } else { "me" };
        Command::SubmitJob(SubmitJob { spec: Arc::new(spec), spec_digest, owner: owner.to_owned(), key })
    }

    /// Some of the ready tasks of a ready step, all members on nodes that follow each other.
    fn place(&self, pick: u8, node: u8, count: u8) -> Command {
        let mut placements = Vec::new();
        let mut steps: Vec<_> = self.state.ready_steps().collect();
        steps.sort_by_key(|ready| (ready.job, ready.step));
        if let Some(ready) = steps.get(pick as usize % steps.len().max(1)) {
            let spec = self.state.step_spec(ready.job, ready.step).unwrap();
            for (task, attempt) in self.state.ready_tasks(ready.job, ready.step).take(count as usize) {
                let task = TaskKey { job: ready.job, step: ready.step, task };
                placements.push(Placement { task, attempt, members: self.seats(spec, pick, node) });
            }
        }
        self.plan(placements, vec![], vec![])
    }

    /// Seats on nodes that follow each other, with devices that do.
    fn seats(&self, spec: &StepSpec, pick: u8, node: u8) -> Vec<Seat> {
        let seat = |rank: u32| {
            let node = NodeId((u64::from(node) + u64::from(rank)) % 4 + 1);
            let incarnation = self.state.node(node).map_or(Incarnation(1), |node| node.incarnation);
            let wanted = spec.resources.gpus.first().map_or(0, |request| request.count);
            let gpus = (0..wanted).map(|gpu| GpuIndex((gpu + u32::from(pick)) % 4)).collect();
            Seat { node, incarnation, gpus, gpu_alternative: 0 }
        };
        // One of no fixed size starts with its least now and then.
        let size = if pick.is_multiple_of(3) { spec.least_size() } else { spec.size };
        (0..size).map(seat).collect()
    }

    fn plan(&self, placements: Vec<Placement>, claims: Vec<ClaimWish>, drops: Vec<TaskKey>) -> Command {
        let (based_on, accept_ms) = (self.state.revision(), self.accept_ms());
        let budget = 0;
        Command::CommitPlan(Plan {
            based_on,
            seed: 0,
            budget,
            placer_version: 1,
            placements,
            accept_ms,
            claims,
            drops,
            at: None,
            made_from: None,
            repairs: Vec::new(),
        })
    }

    /// A claim for a ready task on a node where some run that it might evict, if there is one; or the end of a claim.
    fn claim(&self, pick: u8, node: u8, victims: u8, drop: bool) -> Command {
        let claims: Vec<_> = self.state.claims().map(|(key, _)| *key).collect();
        let drops = claims.get(pick as usize % claims.len().max(1)).copied().filter(|_| drop);
        let turns = (0..12).map(|turn| (pick.wrapping_add(turn / 3 * 7), (node + turn % 3) % 4));
        let wishes: Vec<_> = turns.filter_map(|(pick, node)| self.wish(pick, node, victims)).collect();
        let wish = wishes.iter().find(|wish| !wish.evictions.is_empty()).or(wishes.first());
        self.plan(vec![], wish.cloned().into_iter().collect(), drops.into_iter().collect())
    }

    /// Most are asked of whom it may evict, some of whom it may not.
    fn wish(&self, pick: u8, node: u8, victims: u8) -> Option<ClaimWish> {
        let mut steps: Vec<_> = self.state.ready_steps().collect();
        steps.sort_by_key(|ready| (Reverse(ready.priority), ready.job, ready.step));
        let ready = *steps.get(pick as usize % steps.len().max(1))?;
        let spec = self.state.step_spec(ready.job, ready.step)?;
        let (task, attempt) = self.state.ready_tasks(ready.job, ready.step).nth(usize::from(pick) / 128)?;
        let members = self.seats(spec, pick, node);
        let nodes: BTreeSet<_> = members.iter().map(|seat| seat.node).collect();
        let running = nodes.iter().flat_map(|node| self.state.live_members(*node).map(|(key, ..)| key));
        let all: BTreeSet<_> = running.map(|key| (key.task, key.attempt)).collect();
        let awaited: Vec<_> = all.iter().map(|(task, attempt)| Awaited { task: *task, attempt: *attempt }).collect();
        let honest = !pick.is_multiple_of(8);
        let due = |task| self.state.evictable_at(task).is_some_and(|at| at.0 <= self.time);
        let evictions = all.into_iter().filter_map(|(task, attempt)| {
            let job = &self.state.job(task.job)?.spec;
            let rank = i64::from(job.priority) + i64::from(job.steps[task.step.0 as usize].priority);
            let same = job.queue == ready.queue;
            let kind = if same { EvictionKind::Priority } else { EvictionKind::Reclaim };
            let may = due(task) && (!same || rank < ready.priority.0);
            (may || !honest).then_some(Eviction { task, attempt, kind })
        });
        let task = TaskKey { job: ready.job, step: ready.step, task };
        let mut evictions: Vec<_> = evictions.take(usize::from(victims)).collect();
        // Every other one waits instead for all that is there, or for some of it.
        let reserves = node % 2 == 1;
        let awaits: Vec<_> = awaited.into_iter().filter(|_| reserves).take(usize::from(victims) * 2).collect();
        if !awaits.is_empty() {
            evictions.clear();
        }
        Some(ClaimWish { task, attempt, members, evictions, awaits })
    }

    /// A task takes the seats that it has a claim on.
    fn take_claim(&self, pick: u8) -> Command {
        let claims: Vec<_> = self.state.claims().collect();
        let claim = claims.get(pick as usize % claims.len().max(1));
        if let Some((_, claim)) = claim.filter(|(_, claim)| claim.is_reservation() && !pick.is_multiple_of(3)) {
            return self.plan(self.go_before(claim, pick).into_iter().collect(), vec![], vec![]);
        }
        let placed = claim.map(|(task, claim)| Placement {
            task: **task,
            attempt: claim.attempt,
            members: claim.members.clone(),
        });
        self.plan(placed.into_iter().collect(), vec![], vec![])
    }

    /// Some or all open ranks of a gang are given to members on nodes that follow each other.
    fn repair(&self, pick: u8, node: u8) -> Command {
        let gangs: Vec<TaskKey> = self.state.repairs().map(|(_, key)| key).collect();
        let wish = gangs.get(pick as usize % gangs.len().max(1)).and_then(|task| {
            let attempt = self.state.task(*task)?.attempts.last()?;
            let spec = self.state.step_spec(task.job, task.step)?;
            let open = attempt.repair()?.open.keys().copied();
            let some = if pick.is_multiple_of(2) { 1 } else { usize::MAX };
            let seats = open.zip(self.seats(spec, pick, node)).take(some).collect();
            Some(RepairWish { task: *task, attempt: attempt.number, seats })
        });
        let accept_ms = self.accept_ms();
        Command::CommitPlan(Plan {
            repairs: wish.into_iter().collect(),
            accept_ms,
            ..Plan::empty(self.state.revision())
        })
    }

    /// Somebody else goes where something is reserved, of whom it is known how long that takes: who is let in, if there is such a one.
    fn go_before(&self, claim: &Claim, pick: u8) -> Option<Placement> {
        let known = self.state.ready_steps().filter(|ready| self.state.lasts(ready.job, ready.step).is_some());
        let nodes: BTreeSet<_> = claim.members.iter().map(|seat| (seat.node.0 - 1) as u8).collect();
        let seats = |ready: &ReadyStep| {
            let spec = self.state.step_spec(ready.job, ready.step)?;
            let (task, attempt) = self.state.ready_tasks(ready.job, ready.step).next()?;
            let task = TaskKey { job: ready.job, step: ready.step, task };
            let picks = nodes.iter().flat_map(|node| (0..4).map(|turn| (pick.wrapping_add(turn), *node)));
            let members = picks.map(|(pick, node)| self.seats(spec, pick, node));
            Some(members.map(|members| Placement { task, attempt, members }).collect::<Vec<_>>())
        };
        let mut all: Vec<_> = known.filter_map(seats).flatten().collect();
        all.sort_by_key(|it| (it.task, it.members[0].node));
        let is_let_in = |placement: &&Placement| {
            let command = self.plan(vec![Placement::clone(placement)], vec![], vec![]);
            let entry = Entry { index: Revision(self.state.revision().0 + 1), time: TimeMs(self.time), command };
            let mut then = State::clone(&self.state);
            let reply = apply(&mut then, entry).reply;
            let taken = matches!(reply, Reply::PlanCommitted { refused, .. } if refused.is_empty());
            taken && then.is_awaited(placement.task)
        };
        let found = all.iter().find(is_let_in).or(all.get(usize::from(pick) % all.len().max(1)));
        found.cloned()
    }

    /// A queue as it is, with another contract, and from its cluster version on some of what it has for good.
    fn contract(&self, at: u8, min_run: u8) -> Command {
        let path: QueuePath = QUEUES[at as usize % QUEUES.len()].parse().unwrap();
        let known = self.state.queue(&path).map(|queue| Queue::clone(queue));
        let mut queue = known.unwrap_or_else(|| Queue::new(path));
        if self.state.version() >= ClusterVersion::ACCESS {
            let min_run_ms = u64::from(min_run) * 700;
            queue.contract = Some(Contract { min_run_ms, notice_ms: 20, kill_within_ms: 30 });
            let kept = QueueAmounts {
                cpu_milli: Some(3_000),
                memory_bytes: Some(50),
                disk_bytes: None,
                gpu_milli: [(GpuClass::Any, 1_200)].into(),
                tokens: [("x".parse().unwrap(), 2)].into(),
            };
            if at.is_multiple_of(10) {
                (queue.reserve, queue.no_preempt) = (kept.clone(), kept);
            }
        }
        Command::PutQueue(queue.into())
    }

    /// Accepting is watched once the version knows it.
    fn accept_ms(&self) -> Option<u64> {
        (self.state.version() >= ClusterVersion::ACCESS).then_some(700)
    }

    fn report(&self, node: NodeId, pick: u8, phase: u8) -> Option<AttemptReport> {
        let live: Vec<_> = self.state.live_members(node).map(|(key, _, _)| key).collect();
        let member = *live.get(pick as usize % live.len().max(1))?;
        let phases = [Phase::Accepted, Phase::Fetching, Phase::Running, Phase::Storing];
        let phase = phases.get(phase as usize).copied().ok_or(phase);
        let phase = match phase {
            Ok(phase) => phase,
            Err(how) => return Some(ended(member, how)),
        };
        let at = TimeMs(self.time + u64::from(pick) % 300);
        let running = (phase == Phase::Running).then_some(at);
        let times = PhaseTimes { running, ..PhaseTimes::NONE };
        let saved_at = running.filter(|_| pick.is_multiple_of(3));
        Some(AttemptReport { member, phase, times, end: None, checkpoint: None, stuck: None, saved_at })
    }
}

/// What an agent says of one of its devices.
fn devices(node: NodeId, incarnation: Incarnation, gpu: u8, state: u8) -> Command {
    let reason = if state == 0 { String::new() } else { "xid 79".to_owned() };
    let state = [DeviceState::Healthy, DeviceState::Degraded, DeviceState::Faulty][state as usize];
    let devices = vec![DeviceReport { device: format!("g{gpu}"), state, reason }];
    Command::SetDevices(SetDevices { node, incarnation, devices })
}

/// What an operator says of one.
fn device(node: NodeId, gpu: u8, out: bool) -> Command {
    let (device, by, reason) = (format!("g{gpu}"), "ops".to_owned(), String::new());
    Command::ChangeDevice(ChangeDevice { node, device, out, by, reason })
}

/// What a node is to be, by a number.
fn node_change(change: u8, until: TimeMs) -> NodeChange {
    match change {
        0 => NodeChange::Cordon,
        1 => NodeChange::Drain { deadline: None },
        2..6 => NodeChange::Drain { deadline: Some(until) },
        6..=8 => NodeChange::Uncordon,
        10 => NodeChange::Forgive,
        _ => NodeChange::Remove,
    }
}

/// The report that a member has ended.
pub(crate) fn ended(member: MemberKey, how: u8) -> AttemptReport {
    let (phase, end) = (Phase::Ended, Some(Arc::new(end(how))));
    AttemptReport { member, phase, times: PhaseTimes::NONE, end, checkpoint: None, stuck: None, saved_at: None }
}

fn admitted(pick: u8, key: u8) -> Admitted {
    match pick % 3 {
        0 => Admitted::Coordinator("c1:7400".to_owned()),
        _ => Admitted::Agent(format!("n{}", key % 4).parse().unwrap()),
    }
}

fn identity(who: u8) -> Identity {
    match who {
        0..4 => Identity::Agent(format!("n{who}").parse().unwrap()),
        4 => Identity::Person("ada".parse().unwrap()),
        5 => Identity::Coordinator(ReplicaId(1)),
        _ => Identity::Certificate(Serial([who; 16])),
    }
}

fn end(how: u8) -> End {
    use AttemptOutcome::{Failed, Lost, Preempted, Rejected, Stopped, Succeeded};
    let (outcome, reason, blame) = match how {
        4..14 => (Succeeded, Reason::Exit, Blame::User),
        14..17 => (Failed, Reason::Exit, Blame::User),
        17 => (Failed, Reason::Oom, Blame::User),
        18 => (Failed, Reason::Device, Blame::Hardware),
        19 => (Rejected, Reason::Refused, Blame::Platform),
        20 => (Lost, Reason::NodeLost, Blame::Platform),
        21 => (Preempted, Reason::Preempted, Blame::Platform),
        _ => (Stopped, Reason::Cancelled, Blame::Platform),
    };
    let digest = Digest { hash: [how; 32], length: 1 };
    let list = Some(ItemList { items: digest, count: u32::from(how) % 4 });
    End {
        outcome,
        reason,
        blame,
        exit_code: None,
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::from([("list".parse().unwrap(), Output { manifest: digest, list })]),
        logs: Logs::NONE,
    }
}

fn inventory(gpus: u8) -> Inventory {
    let gpu = |index: u8| Gpu {
        id: format!("g{}", (index + gpus) % 4),
        // The same device may be called otherwise the next time.
        model: format!("Fake-{}", (index + gpus) % 3 % 2),
        memory_bytes: 10,
        numa_node: None,
        link_group: None,
        pcie_group: None,
        healthy: gpus < 3 || index > 0,
        fake: true,
        part: None,
    };
    Inventory {
        cpu_milli: 6_000,
        memory_bytes: 100,
        disk_bytes: 100,
        gpus: (0..gpus).map(gpu).collect(),
        tokens: BTreeMap::from([("x".parse().unwrap(), 3)]),
        labels: BTreeMap::new(),
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        abilities: Abilities {
            containers: true,
            process_isolation: true,
            host_image: true,
            private_networks: false,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: String::new(),
            system: String::new(),
        },
    }
}

fn steps(shape: u8, retry: u8) -> Vec<StepSpec> {
    let list: Name = "list".parse().unwrap();
    let all = |steps: &[u32]| steps.iter().map(|step| (StepIndex(*step), NeedKind::All)).collect::<BTreeMap<_, _>>();
    let each = |step| BTreeMap::from([(StepIndex(step), NeedKind::Each)]);
    let mut steps = match shape % 6 {
        0 => vec![step("a", FanOut::Range { start: 0, count: 5 }, all(&[]))],
        1 => vec![
            step("a", FanOut::Range { start: 0, count: 2 }, all(&[])),
            step("b", FanOut::Output { step: StepIndex(0), output: list }, all(&[0])),
            step("c", FanOut::Each { step: StepIndex(1) }, each(1)),
            step("d", FanOut::Single, all(&[2])),
        ],
        2 => vec![
            step("a", FanOut::Range { start: 0, count: 4 }, all(&[])),
            step("slow", FanOut::Single, all(&[])),
            step("b", FanOut::Each { step: StepIndex(0) }, [each(0), all(&[1])].into_iter().flatten().collect()),
            step("c", FanOut::Each { step: StepIndex(2) }, each(2)),
        ],
        3 => vec![step("a", FanOut::Single, all(&[])), step("b", FanOut::Single, all(&[0]))],
        4 => vec![step("a", FanOut::Range { start: 0, count: 3 }, all(&[])), step("b", FanOut::Single, all(&[0]))],
        _ => vec![
            step("a", FanOut::Items(ItemList { items: Digest { hash: [0; 32], length: 0 }, count: 0 }), all(&[])),
            step("b", FanOut::Each { step: StepIndex(0) }, each(0)),
            step("c", FanOut::Single, all(&[0, 1])),
        ],
    };
    for (at, step) in steps.iter_mut().enumerate() {
        let odd = (usize::from(shape) / 8 + at) % 4;
        step.on_failure = if odd == 1 { OnFailure::Stop } else { OnFailure::Continue };
        step.size = if odd == 2 { 2 + u32::from(shape % 2) } else { 1 };
        let replaces = step.size > 1 && retry > 0;
        step.placing.min_size = (step.size > 2 && retry < 2).then_some(1 + u32::from(retry));
        step.placing.replace = replaces.then_some(Replace { within_ms: 900 });
        step.max_parallel = (odd == 3).then_some(2);
        if shape.is_multiple_of(30) && !shape.is_multiple_of(4) {
            // In a crowd many are alike: half of those end soon.
            step.timeout_ms = Some(50);
        }
        step.preemptible = !shape.is_multiple_of(9);
        step.retry.times = u32::from(retry);
        step.retry.backoff_ms = u64::from(retry) * 500;
        if shape.is_multiple_of(7) {
            // Some take less of a device than of its memory.
            let (share_milli, memory_bytes) = if shape.is_multiple_of(14) { (300, 6) } else { (600, 0) };
            let (model, min_memory_bytes, same_link_group) = (None, 0, false);
            let request = GpuRequest {
                count: 1,
                model,
                min_memory_bytes,
                same_link_group,
                share_milli,
                memory_bytes,
                link: None,
            };
            step.resources.gpus = vec![request];
        }
        if shape.is_multiple_of(3) {
            step.resources.tokens.insert("x".parse().unwrap(), 1);
        }
    }
    steps
}

fn step(name: &str, fan_out: FanOut, needs: BTreeMap<StepIndex, NeedKind>) -> StepSpec {
    // Some may go before a reservation that waits for others, some are there for longer, and of some it is not known.
    let timeout_ms = match (name, &fan_out) {
        ("c", _) => None,
        ("a", FanOut::Range { count: 2 | 4, .. }) => Some(50),
        _ => Some(90_000),
    };
    StepSpec {
        name: name.parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Container,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::from([("list".parse().unwrap(), "list".to_owned())]),
        fan_out,
        needs,
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 1_000,
            memory_bytes: 1,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: vec![],
        },
        size: 1,
        retry: Retry::plain(0, 0, [RetryOn::Failed]),
        timeout_ms,
        expected_ms: None,
        on_failure: OnFailure::Stop,
        max_parallel: None,
        constraints: vec![],
        network: NetworkMode::Host,
        mounts: vec![],
        kill_grace_ms: 0,
        stop_signal: Default::default(),
        on_disconnect: OnDisconnect::Keep,
        secrets: vec![],
        preemptible: true,
        notice: None,
        placing: Default::default(),
        priority: 0,
    }
}

/// Three ready nodes, the queues and the newest version, so that random histories do not begin in an empty world.
pub(crate) fn prelude() -> Vec<Act> {
    let nodes = (0..3).map(|name| Act::Register { name, remembers: false, gpus: name });
    let queues = (1..QUEUES.len() as u8).map(|at| Act::Queue { at, most: 8, bounds: 4 });
    let contracts = (0..QUEUES.len() as u8).map(|at| Act::Contract { at, min_run: at % 2 });
    nodes.chain(queues).chain([Act::Version(2)]).chain(contracts).collect()
}

fn policy(count: u8) -> Command {
    let tokens = (count > 0).then(|| ("x".parse().unwrap(), u64::from(count) - 1)).into_iter().collect();
    Command::PutPolicy(Arc::new(Policy { tokens, ..Policy::default() }))
}

fn drain(node: NodeId, drained: bool) -> Command {
    Command::SetNodeScheduling { node, scheduling: if drained { Scheduling::Drained } else { Scheduling::Open } }
}
