//! The commands of the scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::*;
use flowyard_state::{State, apply, check_all};

use crate::print;

pub(crate) struct Machine {
    state: State,
    time: u64,
}

/// A line taken apart: plain words, and those of the form `key=value`.
struct Line<'a> {
    words: Vec<&'a str>,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn new(line: &'a str) -> Self {
        let (values, words) = line.split_whitespace().partition::<Vec<_>, _>(|word| word.contains('='));
        Self { words, values: values.into_iter().filter_map(|word| word.split_once('=')).collect() }
    }

    fn number<T: std::str::FromStr>(&self, key: &str, otherwise: T) -> T {
        self.values.get(key).map_or(otherwise, |text| parsed(text))
    }

    fn list(&self, key: &str) -> Vec<&'a str> {
        self.values.get(key).map_or(Vec::new(), |text| text.split(',').filter(|part| !part.is_empty()).collect())
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("cannot read `{text}`"))
}

fn digest(of: &str) -> Digest {
    let mut hash = [0; 32];
    for (at, byte) in of.bytes().enumerate() {
        hash[at % 32] ^= byte.rotate_left(at as u32 / 32);
    }
    Digest { hash, length: of.len() as u64 }
}

fn fingerprint(of: &str) -> Fingerprint {
    Fingerprint(digest(of).hash)
}

/// The name of a node, or `c1:7400`
fn admitted(text: &str) -> Admitted {
    if text.contains(':') { Admitted::Coordinator(text.to_owned()) } else { Admitted::Agent(parsed(text)) }
}

/// `agent:n1`, `person:ada`, `coordinator:3`, `certificate:7`
fn identity(text: &str) -> Identity {
    match text.split_once(':').unwrap_or_else(|| panic!("no identity `{text}`")) {
        ("agent", name) => Identity::Agent(parsed(name)),
        ("person", name) => Identity::Person(parsed(name)),
        ("coordinator", replica) => Identity::Coordinator(ReplicaId(parsed(replica))),
        ("certificate", serial) => Identity::Certificate(Serial(parsed::<u128>(serial).to_be_bytes())),
        other => panic!("no identity `{other:?}`"),
    }
}

/// `cpu:2000,memory:1,disk:1,gpu:1000,gpu.a100:1000,token.x:1`, where `gpu` is of any model.
fn amounts(list: &[&str]) -> QueueAmounts {
    let mut amounts = QueueAmounts::default();
    for text in list {
        let (what, amount) = text.split_once(':').unwrap_or_else(|| panic!("no amount `{text}`"));
        let amount = parsed(amount);
        match what.split_once('.') {
            None if what == "cpu" => amounts.cpu_milli = Some(amount),
            None if what == "memory" => amounts.memory_bytes = Some(amount),
            None if what == "disk" => amounts.disk_bytes = Some(amount),
            None if what == "gpu" => drop(amounts.gpu_milli.insert(GpuClass::Any, amount)),
            Some(("gpu", model)) => drop(amounts.gpu_milli.insert(GpuClass::Model(model.to_owned()), amount)),
            Some(("token", name)) => drop(amounts.tokens.insert(parsed(name), amount)),
            _ => panic!("no resource `{what}`"),
        }
    }
    amounts
}

/// `MIN_RUN:NOTICE:KILL_WITHIN`
fn contract(text: &str) -> Contract {
    let [min_run_ms, notice_ms, kill_within_ms] = text.split(':').map(parsed).collect::<Vec<_>>()[..] else {
        panic!("no contract `{text}`")
    };
    Contract { min_run_ms, notice_ms, kill_within_ms }
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { state: State::new(), time: 1_000 }
    }

    pub(crate) fn run(&mut self, lines: &[&str]) -> String {
        let line = Line::new(lines[0]);
        let word = |at: usize| *line.words.get(at).unwrap_or_else(|| panic!("`{}` needs more words", lines[0]));
        match word(0) {
            "time" => {
                self.time = match word(1).strip_prefix('+') {
                    Some(more) => self.time + parsed::<u64>(more),
                    None => parsed(word(1)),
                };
                print::deadline(&self.state, self.time)
            }
            "show" => print::job(&self.state, JobId(parsed(word(1)))),
            "nodes" => print::nodes(&self.state),
            "ready" => print::ready(&self.state),
            "access" => print::access(&self.state),
            "queues" => print::queues(&self.state),
            "claims" => print::claims(&self.state),
            "durations" => print::durations(&self.state),
            "mix" => print::mix(&self.state),
            "accounts" => print::accounts(&self.state, TimeMs(self.time)),
            "usage" => {
                let now = TimeMs(self.time);
                let (from, to) = (TimeMs(parsed(word(1))), TimeMs(parsed(word(2))));
                print::usage(&self.state.usage(from, to, now))
            }
            "is-void" => {
                let void = self.state.revoked(&identity(word(1)), Revision(line.number("issued", 0)));
                format!("{}\n", if void.is_some() { "void" } else { "good" })
            }
            _ => {
                let command = self.command(word(0), &line, &lines[1..]);
                self.apply(command)
            }
        }
    }

    fn apply(&mut self, command: Command) -> String {
        let index = Revision(self.state.revision().0 + 1);
        let before = self.state.view();
        let records_before: Vec<_> = before.records().collect();
        let effects = apply(&mut self.state, Entry { index, time: TimeMs(self.time), command });
        check_all(&self.state).unwrap_or_else(|violation| panic!("{violation}"));
        let again = State::from_records(self.state.records()).unwrap();
        assert!(again == self.state, "a snapshot is the state");
        assert!(before.records().eq(records_before), "a view does not change");
        print::effects(&effects)
    }

    fn command(&self, name: &str, line: &Line<'_>, below: &[&str]) -> Command {
        let word = |at: usize| *line.words.get(at).unwrap_or_else(|| panic!("`{name}` needs more words"));
        match name {
            "submit" => Command::SubmitJob(submit(line, below)),
            "cancel" => Command::CancelJob { job: JobId(parsed(word(1))) },
            "queue" => Command::PutQueue(Arc::new(Queue {
                weight: line.number("weight", 1),
                max_active: line.values.get("max").map(|text| parsed(text)),
                limit: amounts(&line.list("limit")),
                reserve: amounts(&line.list("reserve")),
                borrow: amounts(&line.list("borrow")),
                lend: amounts(&line.list("lend")),
                contract: line.values.get("contract").map(|text| contract(text)),
                no_preempt: amounts(&line.list("no_preempt")),
                path: parsed(word(1)),
            })),
            "policy" => Command::PutPolicy(Arc::new(Policy {
                topology: line.words[1..].iter().map(|text| parsed(text)).collect(),
                throttle: Throttle {
                    per_job: line.values.get("per_job").map(|text| parsed(text)),
                    per_node: line.values.get("per_node").map(|text| parsed(text)),
                },
                tokens: tokens(line),
            })),
            "drop" => Command::DropQueue { path: parsed(word(1)) },
            "node" => Command::RegisterNode(register(line)),
            "health" => self.health(word(1), word(2), line),
            "drain" => Command::SetNodeScheduling { node: NodeId(parsed(word(1))), scheduling: Scheduling::Drained },
            "open" => Command::SetNodeScheduling { node: NodeId(parsed(word(1))), scheduling: Scheduling::Open },
            "cordon" => self.change_node(line, NodeChange::Cordon),
            "empty" => {
                let deadline = line.values.get("for").map(|text| TimeMs(self.time + parsed::<u64>(text)));
                self.change_node(line, NodeChange::Drain { deadline })
            }
            "uncordon" => self.change_node(line, NodeChange::Uncordon),
            "remove" => self.change_node(line, NodeChange::Remove),
            "forgive" => self.change_node(line, NodeChange::Forgive),
            "devices" => self.devices(word(1), line, below),
            "device" => Command::ChangeDevice(ChangeDevice {
                node: NodeId(parsed(word(2))),
                device: word(3).to_owned(),
                out: word(1) == "out",
                by: "ops".to_owned(),
                reason: line.values.get("reason").copied().unwrap_or_default().to_owned(),
            }),
            "place" => Command::CommitPlan(self.plan(line, below)),
            "report" => self.report(line, below),
            "tick" => Command::Tick,
            "epoch" => Command::BeginEpoch { epoch: Epoch(parsed(word(1))) },
            "version" => Command::RaiseVersion { version: ClusterVersion(parsed(word(1))) },
            "archive" => Command::ArchiveJobs(self.archive(line)),
            "seal" => Command::SealSegments(self.seal(line)),
            "forget" => Command::ForgetJobs { jobs: line.words[1..].iter().map(|text| JobId(parsed(text))).collect() },
            "token" => Command::CreateToken(self.token(word(1), line)),
            "revoke-token" => Command::RevokeToken { token: TokenId(parsed(word(1))) },
            "use" => Command::UseToken {
                token: TokenId(parsed(word(1))),
                by: fingerprint(word(2)),
                who: admitted(line.values.get("as").copied().unwrap_or(word(2))),
            },
            "revoke" => Command::RevokeIdentity {
                identity: identity(word(1)),
                until: line.values.get("for").map(|text| TimeMs(self.time + parsed::<u64>(text))),
                by: "root".to_owned(),
            },
            other => panic!("there is no command `{other}`"),
        }
    }

    /// `devices 1`, and lines `fake-0 faulty reason=xid-79`.
    fn devices(&self, node: &str, line: &Line<'_>, below: &[&str]) -> Command {
        let node = NodeId(parsed(node));
        let report = |line: &&str| {
            let line = Line::new(line);
            let state = match line.words[1] {
                "healthy" => DeviceState::Healthy,
                "degraded" => DeviceState::Degraded,
                "faulty" => DeviceState::Faulty,
                other => panic!("no state `{other}` of a device"),
            };
            let reason = line.values.get("reason").copied().unwrap_or_default().to_owned();
            DeviceReport { device: line.words[0].to_owned(), state, reason }
        };
        let devices = below.iter().map(report).collect();
        Command::SetDevices(SetDevices { node, incarnation: self.incarnation(node, line), devices })
    }

    /// `cordon 1 reason=disk`, `empty 1 for=1000`
    fn change_node(&self, line: &Line<'_>, change: NodeChange) -> Command {
        let reason = line.values.get("reason").copied().unwrap_or_default().to_owned();
        Command::ChangeNode(ChangeNode { node: NodeId(parsed(line.words[1])), change, by: "ops".to_owned(), reason })
    }

    /// `token agent for=1000 uses=2` or `token viewer|submitter|operator|admin name=ada queues=a,b`
    fn token(&self, kind: &str, line: &Line<'_>) -> CreateToken {
        let api = |role| Grant::Api { principal: parsed(line.values["name"]), role };
        let grant = match kind {
            "coordinator" => Grant::Join(Joiner::Coordinator),
            "agent" => Grant::Join(Joiner::Agent),
            "viewer" => api(Role::Viewer),
            "submitter" => api(Role::Submitter { queues: line.list("queues").into_iter().map(parsed).collect() }),
            "operator" => api(Role::Operator),
            "admin" => api(Role::Admin),
            other => panic!("no token for `{other}`"),
        };
        CreateToken {
            hash: fingerprint(kind),
            grant,
            expires_at: TimeMs(self.time + line.number("for", 1_000)),
            uses: line.values.get("uses").map(|text| parsed(text)),
            created_by: "root".to_owned(),
        }
    }

    /// `archive 0 1 2 was=a now=b`: page 0 becomes b, and jobs 1 and 2 go.
    fn archive(&self, line: &Line<'_>) -> ArchiveJobs {
        let numbers: Vec<u64> = line.words[1..].iter().map(|text| parsed(text)).collect();
        let now = line.values.get("now").map(|text| ArchivePage {
            rows: digest(text),
            jobs: numbers.len() as u32,
            first_until: TimeMs(self.time),
        });
        let was = line.values.get("was").map(|text| digest(text));
        let jobs = numbers[1..].iter().copied().map(JobId).collect();
        ArchiveJobs { pages: vec![PageChange { page: numbers[0], was, now }], jobs }
    }

    /// `seal 1-5 before=a chain=b`, `seal drop=1`
    fn seal(&self, line: &Line<'_>) -> SealSegments {
        let chain = |key| line.values.get(key).map_or(Fingerprint([0; 32]), |text| fingerprint(text));
        let sealed = line.words[1..].iter().map(|text| {
            let (first, last) = text.split_once('-').unwrap();
            LogSegment {
                first: parsed(first),
                last: parsed(last),
                blob: digest(text),
                before: chain("before"),
                chain: chain("chain"),
                sealed_at: TimeMs(self.time),
            }
        });
        let dropped = line.list("drop").into_iter().map(parsed).collect();
        SealSegments { sealed: sealed.collect(), dropped }
    }

    fn incarnation(&self, node: NodeId, line: &Line<'_>) -> Incarnation {
        let now = self.state.node(node).map_or(1, |node| node.incarnation.0);
        Incarnation(line.number("incarnation", now))
    }

    fn health(&self, node: &str, health: &str, line: &Line<'_>) -> Command {
        let node = NodeId(parsed(node));
        let health = match health {
            "up" => Health::Up,
            "suspect" => Health::Suspect,
            "down" => Health::Down,
            other => panic!("no health `{other}`"),
        };
        Command::SetNodeHealth { node, incarnation: self.incarnation(node, line), health }
    }

    /// `1/train/0#1 on 1 2:0,1` places rank 0 on node 1 and rank 1 on node 2 with its devices 0 and 1.
    fn placement(&self, text: &str) -> Placement {
        let line = Line::new(text);
        let (task, attempt, _) = self.reference(line.words[0]);
        let members = line.words[2..].iter().map(|seat| {
            let (node, gpus) = seat.split_once(':').unwrap_or((seat, ""));
            let node = NodeId(parsed(node));
            let gpus = gpus.split(',').filter(|part| !part.is_empty()).map(|part| GpuIndex(parsed(part))).collect();
            let incarnation = self.incarnation(node, &line);
            Seat { node, incarnation, gpus, gpu_alternative: line.number("alternative", 0) }
        });
        Placement { task, attempt, members: members.collect() }
    }

    /// The lines of a plan: placements, and `claim 2/a/0#1 on 1 evict=1/b/0#1,1/b/1#1 kind=reclaim`, or `awaits=` the
    /// same, and `drop 2/a/0`.
    fn plan(&self, line: &Line<'_>, below: &[&str]) -> Plan {
        let of = |kind: &'static str| below.iter().filter_map(move |line| line.trim().strip_prefix(kind));
        let others = ["claim ", "drop ", "repair "];
        let plain = |line: &&&str| !others.iter().any(|other| line.trim().starts_with(other));
        Plan {
            based_on: self.state.revision(),
            seed: 0,
            budget: 0,
            placer_version: 1,
            placements: below.iter().filter(plain).map(|line| self.placement(line)).collect(),
            accept_ms: line.values.get("accept").map(|text| parsed(text)),
            claims: of("claim ").map(|text| self.claim(text)).collect(),
            drops: of("drop ").map(|text| self.reference(text.trim()).0).collect(),
            at: line.values.get("at").map(|text| TimeMs(parsed(text))),
            made_from: None,
            repairs: of("repair ").map(|text| self.repair(text)).collect(),
        }
    }

    /// `repair 1/train/0#1 on 2>4 3>5:0` gives rank 2 a place on node 4, and rank 3 one on node 5 with its device 0.
    fn repair(&self, text: &str) -> RepairWish {
        let (reference, seats) = text.trim().split_once(" on ").unwrap();
        let pairs: Vec<_> = seats.split(' ').map(|seat| seat.split_once('>').unwrap()).collect();
        let places: Vec<_> = pairs.iter().map(|(_, place)| *place).collect();
        let Placement { task, attempt, members } = self.placement(&format!("{reference} on {}", places.join(" ")));
        let ranks = pairs.iter().map(|(rank, _)| Rank(parsed(rank)));
        RepairWish { task, attempt, seats: ranks.zip(members).collect() }
    }

    fn claim(&self, text: &str) -> ClaimWish {
        let Placement { task, attempt, members } = self.placement(text);
        let line = Line::new(text);
        let kind = match line.values.get("kind").copied() {
            None | Some("priority") => EvictionKind::Priority,
            Some("reclaim") => EvictionKind::Reclaim,
            Some(other) => panic!("no kind `{other}`"),
        };
        let evictions = line.list("evict").into_iter().map(|victim| {
            let (task, attempt, _) = self.reference(victim);
            Eviction { task, attempt, kind }
        });
        let awaits = line.list("awaits").into_iter().map(|awaited| {
            let (task, attempt, _) = self.reference(awaited);
            Awaited { task, attempt }
        });
        ClaimWish { task, attempt, members, evictions: evictions.collect(), awaits: awaits.collect() }
    }

    fn reference(&self, text: &str) -> (TaskKey, AttemptNumber, Rank) {
        let reference: Reference = parsed(text);
        let step = self.state.step_named(reference.job, reference.step.as_ref().unwrap());
        let step = step.unwrap_or(StepIndex(99));
        let task = TaskKey { job: reference.job, step, task: reference.task.unwrap_or(TaskIndex(0)) };
        (task, reference.attempt.unwrap_or(AttemptNumber(1)), reference.rank.unwrap_or(Rank(0)))
    }

    fn report(&self, line: &Line<'_>, below: &[&str]) -> Command {
        let node = NodeId(parsed(line.words[1]));
        let reports = below.iter().map(|line| self.attempt_report(&Line::new(line))).collect();
        Command::ReportAttempts(ReportAttempts { node, incarnation: self.incarnation(node, line), reports })
    }

    fn attempt_report(&self, line: &Line<'_>) -> AttemptReport {
        let (task, attempt, rank) = self.reference(line.words[0]);
        let epoch = self.state.attempt(task, attempt).map_or(Epoch(0), |attempt| attempt.epoch);
        let epoch = Epoch(line.number("epoch", epoch.0));
        let now = TimeMs(self.time);
        let at = Some(now);
        let mut times = PhaseTimes::NONE;
        let phase = match line.words[1] {
            "accepted" => (times.accepted = at, Phase::Accepted).1,
            "fetching" => (times.fetching = at, Phase::Fetching).1,
            "running" => (times.running = at, Phase::Running).1,
            "storing" => (times.storing = at, Phase::Storing).1,
            _ => (times.ended = at, Phase::Ended).1,
        };
        let end = (phase == Phase::Ended).then(|| Arc::new(end(line)));
        let stuck = line.values.get("stuck").map(|text| stuck_phase(text));
        let checkpoint = line.values.get("checkpoint").map(|text| Checkpoint { manifest: digest(text), at: now });
        let saved_at = line.values.get("saved").map(|text| TimeMs(parsed(text)));
        let known = self.state.attempt(task, attempt).map_or(0, |attempt| attempt.member_key(task, rank).replacement);
        let member = MemberKey { task, attempt, rank, epoch, replacement: line.number("replacement", known) };
        AttemptReport { member, phase, times, end, checkpoint, stuck, saved_at }
    }
}

fn stuck_phase(text: &str) -> StuckPhase {
    match text {
        "fetching" => StuckPhase::Fetching,
        "stopping" => StuckPhase::Stopping,
        other => panic!("nothing is stuck in `{other}`"),
    }
}

fn end(line: &Line<'_>) -> End {
    use AttemptOutcome::{Failed, Lost, Preempted, Rejected, Stopped, Succeeded};
    let (outcome, reason, blame) = match line.words[1] {
        "succeeded" => (Succeeded, Reason::Exit, Blame::User),
        "failed" => (Failed, Reason::Exit, Blame::User),
        "oom" => (Failed, Reason::Oom, Blame::User),
        "timeout" => (Failed, Reason::Timeout, Blame::User),
        "broken" => (Failed, Reason::Sandbox, Blame::Platform),
        "stuck" => (Failed, Reason::Stuck, Blame::Platform),
        "device" => (Failed, Reason::Device, Blame::Hardware),
        "rejected" => (Rejected, Reason::Refused, Blame::Platform),
        "stopped" => (Stopped, Reason::Cancelled, Blame::Platform),
        "preempted" => (Preempted, Reason::Preempted, Blame::Platform),
        "lost" => (Lost, Reason::NodeLost, Blame::Platform),
        other => panic!("no end `{other}`"),
    };
    let outputs = line.list("out").into_iter().map(|output| {
        let (name, count) = output.split_once(':').map_or((output, None), |(name, count)| (name, Some(count)));
        let list = count.map(|count| ItemList { items: digest(name), count: parsed(count) });
        (parsed(name), Output { manifest: digest(name), list })
    });
    End {
        outcome,
        reason,
        blame,
        exit_code: Some(line.number("code", i32::from(outcome == Failed))),
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: outputs.collect(),
        logs: Logs::NONE,
    }
}

fn register(line: &Line<'_>) -> RegisterNode {
    let gpu = |text: &&str| {
        let mut parts = text.split(':');
        let (id, model) = (parts.next().unwrap(), parts.next().unwrap_or("fake"));
        let rest: Vec<_> = parts.collect();
        Gpu {
            id: id.to_owned(),
            model: model.to_owned(),
            memory_bytes: 1 << 30,
            numa_node: rest.iter().find_map(|part| part.strip_prefix("numa").map(parsed)),
            link_group: rest.iter().find_map(|part| part.strip_prefix("link").map(parsed)),
            pcie_group: rest.iter().find_map(|part| part.strip_prefix("pcie").map(parsed)),
            healthy: !rest.contains(&"sick"),
            fake: true,
            part: None,
        }
    };
    let pairs = |key| line.list(key).into_iter().map(|pair| pair.split_once(':').unwrap()).collect::<Vec<_>>();
    let lacks = line.list("lacks");
    let abilities = Abilities {
        containers: !lacks.contains(&"containers"),
        process_isolation: !lacks.contains(&"process"),
        host_image: !lacks.contains(&"host"),
        private_networks: !lacks.contains(&"private"),
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    };
    let usual = "28000-28999";
    let (first, last) = line.values.get("ports").unwrap_or(&usual).split_once('-').unwrap();
    let ports = PortRange { first: parsed(first), last: parsed(last) };
    let rendezvous = Rendezvous { address: format!("{}.test", line.words[1]), ports };
    let inventory = Inventory {
        rendezvous: (!lacks.contains(&"gangs")).then_some(rendezvous),
        cpu_milli: line.number("cpu", 4_000),
        memory_bytes: line.number("memory", 1 << 30),
        disk_bytes: line.number("disk", 1 << 30),
        gpus: line.list("gpus").iter().map(gpu).collect(),
        tokens: pairs("tokens").into_iter().map(|(name, count)| (parsed(name), parsed(count))).collect(),
        labels: pairs("labels").into_iter().map(|(name, value)| (parsed(name), value.to_owned())).collect(),
        abilities,
    };
    let previous = line.values.get("previous").map(|text| {
        let (node, incarnation) = text.split_once('.').unwrap();
        (NodeId(parsed(node)), Incarnation(parsed(incarnation)))
    });
    RegisterNode { name: parsed(line.words[1]), inventory: Arc::new(inventory), previous }
}

fn submit(line: &Line<'_>, below: &[&str]) -> SubmitJob {
    let mut steps: Vec<StepSpec> = Vec::new();
    for text in below {
        let step = step(&Line::new(text), &steps);
        steps.push(step);
    }
    let spec = JobSpec {
        name: parsed(line.words[1]),
        queue: line.values.get("queue").map_or(QueuePath::fallback(), |text| parsed(text)),
        priority: line.number("priority", 0),
        tags: line.list("tags").into_iter().map(str::to_owned).collect(),
        params: BTreeMap::new(),
        steps,
        after: line.list("after").into_iter().map(|job| JobId(parsed(job))).collect(),
        retention_ms: line.values.get("retention").map(|text| parsed(text)),
        deadline_ms: line.values.get("deadline").map(|text| parsed(text)),
        queue_ttl_ms: line.values.get("ttl").map(|text| parsed(text)),
    };
    SubmitJob {
        spec_digest: digest(&format!("{spec:?}")),
        spec: Arc::new(spec),
        owner: line.values.get("owner").copied().unwrap_or("me").to_owned(),
        key: line.values.get("key").map(|key| (*key).to_owned()),
    }
}

/// `kept` must not be evicted. `timeout=60000 expected=5000` are its bound and what is expected. `train foreach=split/grid needs=other retry=2 on=failed,oom backoff=100 continue gpus=1:A100 size=2 near=rack! max=3`
fn step(line: &Line<'_>, before: &[StepSpec]) -> StepSpec {
    let named = |name: &str| {
        let at = before.iter().position(|step| step.name.as_str() == name);
        StepIndex(at.unwrap_or_else(|| panic!("no step `{name}` before")) as u32)
    };
    let mut needs: BTreeMap<_, _> = line.list("needs").into_iter().map(|name| (named(name), NeedKind::All)).collect();
    let fan_out = if let Some(count) = line.values.get("tasks") {
        FanOut::Range { start: 0, count: parsed(count) }
    } else if let Some(count) = line.values.get("items") {
        FanOut::Items(ItemList { items: digest("items"), count: parsed(count) })
    } else if let Some((step, output)) = line.values.get("foreach").and_then(|text| text.split_once('/')) {
        needs.insert(named(step), NeedKind::All);
        FanOut::Output { step: named(step), output: parsed(output) }
    } else if let Some(step) = line.values.get("each") {
        needs.insert(named(step), NeedKind::Each);
        FanOut::Each { step: named(step) }
    } else {
        FanOut::Single
    };
    let on = match &*line.list("on") {
        [] => BTreeSet::from([RetryOn::Failed, RetryOn::Oom, RetryOn::Timeout]),
        words => words.iter().map(|word| retry_on(word)).collect(),
    };
    let fails = if line.words.contains(&"continue") { OnFailure::Continue } else { OnFailure::Stop };
    let process = line.words.contains(&"process");
    let leased = line.words.contains(&"leased");
    StepSpec {
        name: parsed(line.words[0]),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: if process { Isolation::Process } else { Isolation::Container },
        code: None,
        inputs: BTreeMap::new(),
        outputs: line.list("out").into_iter().map(|name| (parsed(name), name.to_owned())).collect(),
        fan_out,
        needs,
        env: BTreeMap::new(),
        resources: resources(line),
        size: line.number("size", 1),
        retry: retry(line, on),
        timeout_ms: line.values.get("timeout").map(|text| parsed(text)),
        expected_ms: line.values.get("expected").map(|text| parsed(text)),
        on_failure: fails,
        max_parallel: line.values.get("max").map(|text| parsed(text)),
        constraints: line.list("label").into_iter().map(constraint).collect(),
        network: if line.words.contains(&"private") { NetworkMode::Private } else { NetworkMode::Host },
        mounts: Vec::new(),
        kill_grace_ms: 1_000,
        stop_signal: Default::default(),
        on_disconnect: if leased { OnDisconnect::Stop } else { OnDisconnect::Keep },
        secrets: vec![],
        preemptible: !line.words.contains(&"kept"),
        notice: None,
        placing: placing(line),
        priority: line.number("priority", 0),
    }
}

/// `near=rack! spread=rack:2 unique apart=db,noisy`
fn placing(line: &Line<'_>) -> Placing {
    let spread = |text: &str| {
        let (over, most) = text.split_once(':').unwrap_or((text, ""));
        Spread { over: parsed(over), at_most: (!most.is_empty()).then(|| parsed(most)) }
    };
    Placing {
        near: line.values.get("near").map(|text| near(text)),
        spread: line.values.get("spread").map(|text| spread(text)),
        min_size: line.values.get("least").map(|least| parsed(least)),
        unique_host: line.words.contains(&"unique"),
        replace: line.values.get("replace").map(|ms| Replace { within_ms: parsed(ms) }),
        apart: line.list("apart").into_iter().map(str::to_owned).collect(),
        ..Placing::default()
    }
}

/// `retry=3 backoff=100 factor=3 most=500 jitter rules=oom:1,42:2:50` where a rule is REASON or EXIT CODE, tries, first wait.
fn retry(line: &Line<'_>, on: BTreeSet<RetryOn>) -> Retry {
    let rules = line.list("rules").into_iter().map(|text| {
        let parts: Vec<_> = text.split(':').collect();
        let code = parts[0].parse().ok();
        let reason = || match parts[0] {
            "oom" => Reason::Oom,
            "timeout" => Reason::Timeout,
            other => panic!("no reason `{other}` in a rule"),
        };
        RetryRule {
            reasons: code.is_none().then(reason).into_iter().collect(),
            exit_codes: code.into_iter().collect(),
            times: parts.get(1).map(|text| parsed(text)),
            backoff: parts.get(2).map(|text| Backoff { first_ms: parsed(text), growth: Growth::DOUBLING }),
        }
    });
    let growth = Growth {
        factor: line.number("factor", 2),
        max_ms: line.values.get("most").map(|text| parsed(text)),
        jitter: line.words.contains(&"jitter"),
    };
    Retry { growth, rules: rules.collect(), ..Retry::plain(line.number("retry", 0), line.number("backoff", 0), on) }
}

fn retry_on(word: &str) -> RetryOn {
    match word {
        "failed" => RetryOn::Failed,
        "oom" => RetryOn::Oom,
        "timeout" => RetryOn::Timeout,
        other => panic!("no end `{other}` to retry on"),
    }
}

fn link(word: &str) -> GpuLink {
    *GpuLink::ALL.iter().find(|link| link.as_str() == word).unwrap_or_else(|| panic!("no level `{word}`"))
}

fn near(text: &str) -> Near {
    Near { level: parsed(text.trim_end_matches('!')), need: text.ends_with('!') }
}

fn constraint(text: &str) -> Constraint {
    let (label, value) = text.split_once(':').unwrap();
    Constraint { label: parsed(label), operator: ConstraintOperator::In, values: vec![value.to_owned()] }
}

fn resources(line: &Line<'_>) -> Resources {
    let gpus = line.list("gpus").into_iter().map(|text| {
        let (count, model) = text.split_once(':').map_or((text, None), |(count, model)| (count, Some(model)));
        GpuRequest {
            count: parsed(count),
            model: model.map(str::to_owned),
            min_memory_bytes: 0,
            same_link_group: line.words.contains(&"linked"),
            share_milli: line.number("share", 1_000),
            memory_bytes: line.number("vram", 0),
            link: line.values.get("link").map(|word| link(word)),
        }
    });
    let tokens = line.list("tokens").into_iter().map(|pair| pair.split_once(':').unwrap());
    Resources {
        cpu_milli: line.number("cpu", 1_000),
        memory_bytes: line.number("memory", 1),
        disk_bytes: line.number("disk", 0),
        shm_bytes: 0,
        tokens: tokens.map(|(name, count)| (parsed(name), parsed(count))).collect(),
        gpus: gpus.collect(),
    }
}

fn tokens(line: &Line<'_>) -> std::collections::BTreeMap<flowyard_model::Name, u64> {
    let counts = line.list("tokens").into_iter().map(|pair| pair.split_once(':').unwrap());
    counts.map(|(name, count)| (parsed(name), parsed(count))).collect()
}
