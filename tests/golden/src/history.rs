//! A fixed history that uses every command and leaves a state with every kind of record.

use std::sync::Arc;

use flowyard_model::*;
use flowyard_state::{State, apply};

use crate::parts::{blob, end, inventory, job, name, report, step, sweep};

/// The history while it is being written: each command is applied, so that the next ones can refer to what it made.
struct Script {
    state: State,
    now: TimeMs,
    entries: Vec<(TimeMs, Command)>,
}

/// The entries of the history, in order.
pub fn script() -> Vec<(TimeMs, Command)> {
    let mut script = Script { state: State::new(), now: TimeMs(1_700_000_000_000), entries: Vec::new() };
    script.set_up();
    let sweep = script.submit(sweep(), Some("nightly-1"));
    script.split(sweep);
    script.train(sweep);
    script.finish(sweep);
    script.others(sweep);
    script.let_in();
    script.close_nodes();
    script.keep_the_past();
    script.restored();
    script.keep_secrets();
    script.bound_queues();
    script.make_room();
    script.watch_devices();
    script.entries
}

impl Script {
    fn say(&mut self, command: Command) -> Reply {
        self.now = self.now.after(250);
        self.entries.push((self.now, command.clone()));
        let index = Revision(self.entries.len() as u64);
        apply(&mut self.state, Entry { index, time: self.now, command }).reply
    }

    fn submit(&mut self, spec: JobSpec, key: Option<&str>) -> JobId {
        let bytes = flowyard_proto::encode_spec(&spec).expect("a spec of the script is small");
        let spec_digest = Digest { hash: *blake3::hash(&bytes).as_bytes(), length: bytes.len() as u64 };
        let key = key.map(str::to_owned);
        let submit = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "ada".to_owned(), key };
        match self.say(Command::SubmitJob(submit)) {
            Reply::Submitted { job, .. } => job,
            other => panic!("the script's job was not taken: {other:?}"),
        }
    }

    fn register(&mut self, name_: &str, previous: Option<(NodeId, Incarnation)>) {
        let register = RegisterNode { name: name(name_), inventory: Arc::new(inventory()), previous };
        let reply = self.say(Command::RegisterNode(register));
        assert!(matches!(reply, Reply::Registered { .. }), "the script's node was not taken: {reply:?}");
    }

    /// Places tasks on a node, with these devices; tells how many were refused.
    fn place(&mut self, node: u64, tasks: &[(TaskKey, u32)], gpus: &[u32]) -> usize {
        let incarnation = self.state.node(NodeId(node)).expect("a node of the script").incarnation;
        let seat = Seat {
            node: NodeId(node),
            incarnation,
            gpus: gpus.iter().copied().map(GpuIndex).collect(),
            gpu_alternative: 0,
        };
        let place = |(task, attempt): &(TaskKey, u32)| Placement {
            task: *task,
            attempt: AttemptNumber(*attempt),
            members: vec![seat.clone()],
        };
        let placements = tasks.iter().map(place).collect();
        let based_on = self.state.revision();
        let plan = Plan {
            based_on,
            seed: 42,
            budget: 10_000,
            placer_version: 1,
            placements,
            accept_ms: None,
            claims: vec![],
            drops: vec![],
            at: None,
            made_from: None,
            repairs: Vec::new(),
        };
        match self.say(Command::CommitPlan(plan)) {
            Reply::PlanCommitted { refused, .. } => refused.len(),
            other => panic!("a plan is answered line by line, not with {other:?}"),
        }
    }

    fn report(&mut self, node: u64, reports: Vec<AttemptReport>) {
        let incarnation = self.state.node(NodeId(node)).expect("a node of the script").incarnation;
        self.say(Command::ReportAttempts(ReportAttempts { node: NodeId(node), incarnation, reports }));
    }

    /// The same together with what somebody says who is not there.
    fn report_beside(&mut self, node: u64, reports: Vec<AttemptReport>) {
        let incarnation = self.state.node(NodeId(node)).expect("a node of the script").incarnation;
        let nobody = ReportAttempts { node: NodeId(999), incarnation: Incarnation(1), reports: reports.clone() };
        let somebody = ReportAttempts { node: NodeId(node), incarnation, reports };
        assert_eq!(self.say(Command::ReportMany(vec![nobody, somebody])), Reply::Done);
    }

    /// Queues and nodes; what is set is changed again.
    fn set_up(&mut self) {
        self.say(Command::RaiseVersion { version: ClusterVersion(1) });
        let queue = |path: &str, weight, max_active| {
            Command::PutQueue(Queue { weight, max_active, ..Queue::new(path.parse().expect("a path")) }.into())
        };
        self.say(queue("research/vision", 3, Some(100)));
        self.say(queue("old", 1, None));
        self.say(Command::DropQueue { path: "old".parse().expect("a path") });
        self.register("n1", None);
        self.register("n2", None);
        self.register("n3", None);
        self.say(Command::SetNodeScheduling { node: NodeId(3), scheduling: Scheduling::Drained });
        let suspect = Health::Suspect;
        self.say(Command::SetNodeHealth { node: NodeId(3), incarnation: Incarnation(1), health: suspect });
    }

    /// From the second cluster version on: tokens, and who was shut out.
    fn let_in(&mut self) {
        self.say(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        let join = Grant::Join(Joiner::Agent);
        let agents = self.token(join.clone(), Some(2));
        let revoked = self.token(join, Some(1));
        let queues = ["research/vision", "default"].map(|path| path.parse().expect("a path"));
        let role = Role::Submitter { queues: queues.into() };
        self.token(Grant::Api { principal: name("ada"), role }, None);
        self.token(Grant::Api { principal: name("grace"), role: Role::Admin }, None);
        let by = Fingerprint([7; 32]);
        let used = self.say(Command::UseToken { token: agents, by, who: Admitted::Agent(name("n8")) });
        assert!(matches!(used, Reply::TokenUsed { .. }), "the script's token was not taken: {used:?}");
        self.say(Command::RevokeToken { token: revoked });
        let until = Some(self.now.after(86_400_000));
        let shut_out = [
            (Identity::Agent(name("n9")), until),
            (Identity::Person(name("eve")), None),
            (Identity::Coordinator(ReplicaId(4)), until),
            (Identity::Certificate(Serial([9; 16])), until),
        ];
        for (identity, until) in shut_out {
            self.say(Command::RevokeIdentity { identity, until, by: "grace".to_owned() });
        }
    }

    /// From the second cluster version on: secrets kept, replaced and forgotten, and a job that is given one.
    fn keep_secrets(&mut self) {
        let put = |text: &str, queue: Option<&str>| {
            let (key, by) = (Fingerprint([5; 32]), "grace".to_owned());
            let queue = queue.map(|path| path.parse().expect("a path"));
            Command::PutSecret(PutSecret { name: name(text), queue, sealed: blob(text), key, replaces: None, by })
        };
        self.say(put("API_KEY", Some("research/vision")));
        self.say(put("API_KEY", None));
        self.say(put("OLD", None));
        self.say(Command::DropSecret { name: name("OLD") });
        let place = SecretPlace::Variable("API_KEY".to_owned());
        let file = SecretUse { place: SecretPlace::File("key".to_owned()), secret: name("API_KEY") };
        let mut step = step("secretive");
        step.secrets = vec![SecretUse { place, secret: name("API_KEY") }, file];
        self.submit(job("secretive", vec![step]), None);
    }

    /// From the second cluster version on: queues with amounts of every kind, one of which lets nothing more in.
    fn bound_queues(&mut self) {
        let path = |text: &str| -> QueuePath { text.parse().expect("a path") };
        let amounts = |milli: u64| QueueAmounts {
            cpu_milli: Some(8 * milli),
            memory_bytes: Some(milli << 30),
            disk_bytes: Some(0),
            gpu_milli: [(GpuClass::Any, 2 * milli), (GpuClass::model("A100"), milli)].into(),
            tokens: [(name("licence"), milli)].into(),
        };
        let (limit, reserve) = (amounts(1_000), amounts(500));
        let whole = Queue {
            limit: limit.clone(),
            reserve,
            borrow: amounts(400),
            lend: amounts(100),
            ..Queue::new(path("lab"))
        };
        assert_eq!(self.say(Command::PutQueue(whole.into())), Reply::Done);
        let deeper = Queue { reserve: amounts(100), ..Queue::new(path("lab/speech/long")) };
        assert_eq!(self.say(Command::PutQueue(deeper.into())), Reply::Done);
        let greedy = Queue { reserve: limit, ..Queue::new(path("lab/greedy")) };
        assert!(matches!(self.say(Command::PutQueue(greedy.into())), Reply::Rejected(_)), "it is promised too much");
        assert!(matches!(self.say(Command::DropQueue { path: path("lab") }), Reply::Rejected(_)), "one is below it");
        let mut train = step("train");
        train.network = NetworkMode::Host;
        train.fan_out = FanOut::Range { start: 0, count: 3 };
        train.resources.tokens.insert(name("licence"), 1);
        train.resources.gpus = vec![GpuRequest {
            count: 1,
            model: None,
            min_memory_bytes: 0,
            same_link_group: false,
            share_milli: 450,
            memory_bytes: 0,
            link: None,
        }];
        let job = self.submit(JobSpec { queue: path("lab/speech/long"), ..job("bound", vec![train]) }, None);
        let tasks: Vec<_> = (0..3).map(|task| (key(job, 0, task), 1)).collect();
        assert_eq!(self.place(5, &tasks[..2], &[1]), 0);
        assert_eq!(self.place(5, &tasks[2..], &[0]), 1, "it would borrow too much");
    }

    /// From the second cluster version on: what is near to what, and an attempt that leaves for a more urgent task.
    fn make_room(&mut self) {
        let policy = Policy { topology: vec![name("zone"), name("rack")], ..Policy::default() };
        assert_eq!(self.say(Command::PutPolicy(policy.into())), Reply::Done);
        let contract = Some(Contract { min_run_ms: 0, notice_ms: 20_000, kill_within_ms: 30_000 });
        let path: QueuePath = "urgent".parse().expect("a path");
        assert_eq!(self.say(Command::PutQueue(Queue { contract, ..Queue::new(path.clone()) }.into())), Reply::Done);
        let mut wide = StepSpec { network: NetworkMode::Host, ..step("wide") };
        wide.resources.cpu_milli = 9_000;
        let low = self.submit(JobSpec { queue: path.clone(), ..job("low", vec![wide.clone()]) }, None);
        self.register("n9", None);
        let (node, record) = self.state.node_named(&name("n9")).expect("it was registered");
        let incarnation = record.incarnation;
        assert_eq!(self.place(node.0, &[(key(low, 0, 0), 1)], &[]), 0);
        let high = self.submit(JobSpec { queue: path, priority: 5, ..job("high", vec![wide]) }, None);
        let evictions =
            vec![Eviction { task: key(low, 0, 0), attempt: AttemptNumber(1), kind: EvictionKind::Priority }];
        let members = vec![Seat { node, incarnation, gpus: vec![], gpu_alternative: 0 }];
        let claim = ClaimWish { task: key(high, 0, 0), attempt: AttemptNumber(1), members, evictions, awaits: vec![] };
        let plan = Plan {
            based_on: self.state.revision(),
            seed: 42,
            budget: 10_000,
            placer_version: 3,
            placements: vec![],
            accept_ms: Some(60_000),
            claims: vec![claim],
            drops: vec![],
            at: Some(self.now),
            made_from: Some(MadeFrom { number: 7, part: 0, tasks: 1_000, under_way: vec![5, 6] }),
            repairs: Vec::new(),
        };
        let taken = Reply::PlanCommitted { refused: vec![], refused_claims: vec![] };
        assert_eq!(self.say(Command::CommitPlan(plan)), taken);
    }

    /// From the second cluster version on: nodes closed by somebody, emptied in time or not, opened, and forgotten.
    fn close_nodes(&mut self) {
        let until = |at| NodeChange::Drain { deadline: Some(at) };
        let (soon, later) = (self.now.after(300), self.now.after(3_600_000));
        self.register("n4", None);
        let changes =
            [(4, NodeChange::Cordon), (4, NodeChange::Remove), (3, NodeChange::Uncordon), (3, NodeChange::Cordon)];
        let drains = [(1, until(later)), (2, until(soon))];
        for (node, change) in changes.into_iter().chain(drains) {
            let (by, reason) = ("grace".to_owned(), "new disk".to_owned());
            let reply = self.say(Command::ChangeNode(ChangeNode { node: NodeId(node), change, by, reason }));
            assert_eq!(reply, Reply::Done, "node {node}");
        }
        self.now = self.now.after(1_000);
        self.say(Command::Tick);
    }

    /// From the second cluster version on: after a restore, attempts are of another epoch.
    fn restored(&mut self) {
        self.say(Command::BeginEpoch { epoch: Epoch(1) });
        self.register("n5", None);
        let mut only = step("only");
        only.network = NetworkMode::Host;
        let job = self.submit(job("restored", vec![only]), None);
        assert_eq!(self.place(5, &[(key(job, 0, 0), 1)], &[]), 0);
        let mut running = report(key(job, 0, 0), 1, Phase::Running, None);
        running.member.epoch = Epoch(1);
        self.report_beside(5, vec![running]);
    }

    /// From the second cluster version on: a device that is not well and one that somebody took out of use, and how long a step took.
    fn watch_devices(&mut self) {
        self.register("n6", None);
        let (node, record) = self.state.node_named(&name("n6")).expect("it was registered");
        let (incarnation, ids) = (record.incarnation, record.inventory.gpus.iter().map(|gpu| gpu.id.clone()));
        let ids: Vec<String> = ids.collect();
        let seen = DeviceReport { device: ids[0].clone(), state: DeviceState::Degraded, reason: "Xid 63".to_owned() };
        let set = SetDevices { node, incarnation, devices: vec![seen] };
        assert_eq!(self.say(Command::SetDevices(set)), Reply::Done);
        let (by, reason) = ("grace".to_owned(), "a fan is loud".to_owned());
        let out = ChangeDevice { node, device: ids[ids.len() - 1].clone(), out: true, by, reason };
        assert_eq!(self.say(Command::ChangeDevice(out)), Reply::Done);
        let only = StepSpec { network: NetworkMode::Host, expected_ms: Some(30_000), ..step("only") };
        let job = self.submit(job("quick", vec![only]), None);
        assert_eq!(self.place(node.0, &[(key(job, 0, 0), 1)], &[]), 0);
        self.now = self.now.after(20_000);
        let mut ended = report(key(job, 0, 0), 1, Phase::Ended, Some(end(0)));
        ended.member.epoch = self.state.epoch();
        self.report(node.0, vec![ended]);
    }

    /// From the second cluster version on: a job with limits in time that goes into the archive, and a log that is sealed.
    fn keep_the_past(&mut self) {
        let limits = JobSpec { deadline_ms: Some(500), queue_ttl_ms: Some(100), ..job("late", vec![step("only")]) };
        let late = self.submit(limits, None);
        self.now = self.now.after(1_000);
        self.say(Command::Tick);
        assert!(self.state.job(late).is_some_and(|job| job.overdue.is_some() && job.ended.is_some()));
        let page = ArchivePage { rows: blob("page"), jobs: 1, first_until: self.now.after(86_400_000) };
        let pages = vec![PageChange { page: ArchivePage::of(late), was: None, now: Some(page) }];
        let reply = self.say(Command::ArchiveJobs(ArchiveJobs { pages, jobs: vec![late] }));
        assert!(reply == Reply::Done && self.state.job(late).is_none());
        let (before, chain) = (Fingerprint([0; 32]), Fingerprint([4; 32]));
        let segment = LogSegment { first: 1, last: 20, blob: blob("segment"), before, chain, sealed_at: self.now };
        let seal = SealSegments { sealed: vec![segment], dropped: Vec::new() };
        assert_eq!(self.say(Command::SealSegments(seal)), Reply::Done);
    }

    fn token(&mut self, grant: Grant, uses: Option<u32>) -> TokenId {
        let created_by = "grace".to_owned();
        let expires_at = self.now.after(3_600_000);
        let create = CreateToken { hash: Fingerprint([1; 32]), grant, expires_at, uses, created_by };
        match self.say(Command::CreateToken(create)) {
            Reply::TokenCreated { token } => token,
            other => panic!("the script's token was not made: {other:?}"),
        }
    }

    /// The list of the sweep is written, with reports on the way.
    fn split(&mut self, job: JobId) {
        let split = key(job, 0, 0);
        assert_eq!(self.place(1, &[(split, 1)], &[]), 0);
        let mut running = report(split, 1, Phase::Running, None);
        running.times = PhaseTimes { accepted: Some(self.now), running: Some(self.now), ..PhaseTimes::NONE };
        running.checkpoint = Some(Checkpoint { manifest: blob("checkpoint"), at: self.now });
        self.report(1, vec![running]);
        let mut ended = end(0);
        let list = Some(ItemList { items: blob("items"), count: 4 });
        ended.outputs.insert(name("grid"), Output { manifest: blob("grid"), list });
        self.report(1, vec![report(split, 1, Phase::Ended, Some(ended))]);
    }

    /// One task of the fan-out succeeds, one fails and is tried again, one is lost with its node, one is not placed yet.
    fn train(&mut self, job: JobId) {
        let train = |task| key(job, 1, task);
        assert_eq!(self.place(1, &[(train(0), 1), (train(1), 1), (train(0), 1)], &[0]), 1, "one of them twice");
        assert_eq!(self.place(2, &[(train(2), 1)], &[1]), 0);
        let failed = report(train(1), 1, Phase::Ended, Some(end(3)));
        self.report(1, vec![report(train(0), 1, Phase::Ended, Some(self.model(0))), failed]);
        self.say(Command::SetNodeHealth { node: NodeId(2), incarnation: Incarnation(1), health: Health::Down });
        self.register("n2", Some((NodeId(2), Incarnation(1))));
        self.now = self.now.after(60_000);
        self.say(Command::Tick);
        assert_eq!(self.place(2, &[(train(1), 2), (train(2), 2)], &[1]), 0);
        self.report(2, vec![report(train(2), 2, Phase::Fetching, None)]);
    }

    fn model(&self, task: u32) -> End {
        let mut ended = end(0);
        let manifest = blob(&format!("model {task}"));
        ended.outputs.insert(name("model"), Output { manifest, list: None });
        ended
    }

    /// A job that runs to its end, is asked for again by its key, and one that is forgotten.
    fn finish(&mut self, sweep: JobId) {
        let once = || job("once", vec![step("only")]);
        let kept = self.submit(once(), Some("once"));
        assert_eq!(self.submit(once(), Some("once")), kept, "the same submission is the same job");
        let forgotten = self.submit(once(), None);
        for job in [kept, forgotten] {
            let only = key(job, 0, 0);
            assert_eq!(self.place(1, &[(only, 1)], &[]), 0);
            self.report(1, vec![report(only, 1, Phase::Ended, Some(end(0)))]);
        }
        self.say(Command::ForgetJobs { jobs: vec![forgotten, sweep] });
        assert!(self.state.job(forgotten).is_none() && self.state.job(sweep).is_some());
    }

    /// A wide job that is cancelled half-way, one that fails and skips, and one that waits for the sweep.
    fn others(&mut self, sweep: JobId) {
        let mut wide = step("wide");
        wide.fan_out = FanOut::Range { start: -5, count: 1_000_000 };
        let cancelled = self.submit(job("wide", vec![wide]), None);
        let placed: Vec<_> = [7, 8, 500_000].map(|task| (key(cancelled, 0, task), 1)).into();
        assert_eq!(self.place(1, &placed, &[]), 0);
        self.say(Command::CancelJob { job: cancelled });

        let mut items = step("items");
        items.fan_out = FanOut::Items(ItemList { items: blob("known items"), count: 3 });
        items.on_failure = OnFailure::Continue;
        let mut follow = step("follow");
        follow.fan_out = FanOut::Each { step: StepIndex(0) };
        follow.needs.insert(StepIndex(0), NeedKind::Each);
        let failing = self.submit(job("failing", vec![items, follow]), None);
        assert_eq!(self.place(2, &[(key(failing, 0, 1), 1)], &[]), 0);
        self.report(2, vec![report(key(failing, 0, 1), 1, Phase::Ended, Some(end(1)))]);

        let after = JobSpec { after: vec![sweep], ..job("after", vec![step("only")]) };
        self.submit(after, None);
        self.say(Command::CancelJob { job: JobId(999) });
    }
}

fn key(job: JobId, step: u32, task: u32) -> TaskKey {
    TaskKey { job, step: StepIndex(step), task: TaskIndex(task) }
}
