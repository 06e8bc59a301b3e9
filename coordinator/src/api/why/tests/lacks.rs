//! What nodes lack, in words: each kind with its numbers.

use flowyard_model::{Gpu, GpuLink, GpuRequest, Health, NodeChange, Scheduling, Standing};

use super::*;

/// A node of two CPUs with such devices.
fn with_gpus(models: &[(&str, u32)]) -> Cluster {
    let gpu = |model: &str, at: u32| Gpu {
        id: format!("{model}-{at}"),
        model: model.to_owned(),
        memory_bytes: 80 << 30,
        numa_node: None,
        link_group: None,
        pcie_group: Some(at / 2),
        healthy: true,
        fake: true,
        part: None,
    };
    let mut cluster = Cluster::empty();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    cluster.with_node("n1", |inventory| {
        inventory.gpus = models.iter().flat_map(|(model, count)| (0..*count).map(move |at| gpu(model, at))).collect();
        (inventory.cpu_milli, inventory.disk_bytes) = (64_000, 4 << 30);
        inventory.tokens = [("dongle".parse().unwrap(), 1)].into();
    })
}

fn asking(model: Option<&str>, count: u32) -> GpuRequest {
    GpuRequest {
        count,
        model: model.map(str::to_owned),
        min_memory_bytes: 0,
        same_link_group: false,
        share_milli: 1_000,
        memory_bytes: 0,
        link: None,
    }
}

fn with(request: GpuRequest) -> StepSpec {
    let mut wanted = step("train", 1);
    wanted.resources.cpu_milli = 1_000;
    wanted.resources.gpus = vec![request];
    wanted
}

/// What is said of the only node to who waits with such a step.
fn lacks(cluster: &mut Cluster, step: StepSpec) -> Vec<String> {
    let job = cluster.submit(vec![step], Vec::new());
    let details = cluster.task(key(job, 0, 0)).details;
    cluster.apply(Command::CancelJob { job });
    details
}

/// A task of a step is placed, with these devices.
fn run(cluster: &mut Cluster, step: StepSpec, gpus: &[u32]) {
    let task = key(cluster.submit(vec![step], Vec::new()), 0, 0);
    let incarnation = cluster.state.node(NodeId(1)).unwrap().incarnation;
    let gpus = gpus.iter().map(|at| flowyard_model::GpuIndex(*at)).collect();
    let seat = Seat { node: NodeId(1), incarnation, gpus, gpu_alternative: 0 };
    cluster.commit(vec![Placement { task, attempt: AttemptNumber(1), members: vec![seat] }]);
    assert!(cluster.state.live_members(NodeId(1)).any(|(live, ..)| live.task == task), "it runs");
}

#[test]
fn only_gpus_that_would_do_are_counted_on_a_node_with_several_models() {
    let mut cluster = with_gpus(&[("H100", 4), ("A100", 4)]);
    run(&mut cluster, with(asking(Some("H100"), 3)), &[0, 1, 2]);
    assert_eq!(
        lacks(&mut cluster, with(asking(Some("H100"), 2))),
        ["1 node: GPUs taken or unhealthy, such as n1: 1 of 4 that would do (model H100) free and healthy"]
    );
    assert_eq!(
        lacks(&mut cluster, with(asking(Some("H100"), 5))),
        ["1 node: no such GPUs, such as n1: it has 8 GPUs, of which 4 would do (model H100)"]
    );
    assert_eq!(
        lacks(&mut cluster, with(asking(None, 6))),
        ["1 node: GPUs taken or unhealthy, such as n1: 5 of 8 free and healthy"]
    );
    assert_eq!(lacks(&mut cluster, with(asking(None, 9))), ["1 node: no such GPUs, such as n1: it has 8 GPUs"]);
    let large = GpuRequest { min_memory_bytes: 90 << 30, ..asking(None, 1) };
    assert_eq!(
        lacks(&mut cluster, with(large)),
        ["1 node: no such GPUs, such as n1: it has 8 GPUs, of which 0 would do"]
    );
    let linked = GpuRequest { link: Some(GpuLink::Pcie), ..asking(Some("H100"), 4) };
    let far = lacks(&mut cluster, with(linked)).concat();
    assert!(far.contains("no GPUs so near to each other, such as n1: at most 2 GPUs that would do in one"), "{far}");
}

#[test]
fn of_shares_those_are_counted_that_have_so_much_free() {
    let mut cluster = with_gpus(&[("L4", 2)]);
    let share = |count, share_milli| GpuRequest { share_milli, ..asking(None, count) };
    run(&mut cluster, with(share(1, 700)), &[0]);
    assert_eq!(
        lacks(&mut cluster, with(share(2, 500))),
        ["1 node: GPUs taken or unhealthy, such as n1: 1 of 2 healthy with 0.5 of one free"]
    );
    let declared = GpuRequest { memory_bytes: 30 << 30, ..share(2, 250) };
    assert_eq!(
        lacks(&mut cluster, with(declared)),
        ["1 node: GPUs taken or unhealthy, such as n1: 1 of 2 healthy with 0.25 of one and 30GiB of its memory free"]
    );
}

#[test]
fn memory_disk_and_tokens_are_told_with_what_is_free_or_there_is_in_all() {
    let mut cluster = with_gpus(&[]);
    let mut filler = step("filler", 1);
    (filler.resources.memory_bytes, filler.resources.disk_bytes) = (768 << 20, 3 << 30);
    filler.resources.tokens = [("dongle".parse().unwrap(), 1)].into();
    run(&mut cluster, filler.clone(), &[]);
    let expected = [
        "1 node: disk taken, such as n1: 1GiB of 4GiB free",
        "1 node: memory taken, such as n1: 256MiB of 1GiB free",
        "1 node: tokens taken or missing, such as n1: 0 of 1 dongle free",
    ];
    assert_eq!(lacks(&mut cluster, filler.clone()), expected);
    (filler.resources.memory_bytes, filler.resources.disk_bytes) = (2 << 30, 5 << 30);
    filler.resources.cpu_milli = 65_000;
    let expected = [
        "1 node: tokens taken or missing, such as n1: 0 of 1 dongle free",
        "1 node: too few CPUs, such as n1: it has 64 in all",
        "1 node: too little disk, such as n1: it has 4GiB in all",
        "1 node: too little memory, such as n1: it has 1GiB in all",
    ];
    assert_eq!(lacks(&mut cluster, filler), expected);
}

#[test]
fn what_an_agent_cannot_do_is_said_in_words() {
    let told = |change: &dyn Fn(&mut Inventory), step: StepSpec| {
        let mut cluster = Cluster::empty().with_node("n1", change);
        cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        lacks(&mut cluster, step).concat()
    };
    let unable = |what: &str| format!("1 node: not able or not allowed, such as n1: {what}");
    let apart = StepSpec { network: NetworkMode::Private, ..step("train", 1) };
    let why = "it has no private networks (its agent is of a release without them); network \"host\" needs none";
    assert_eq!(told(&|_| {}, apart), unable(why));
    let gang = StepSpec { size: 2, ..step("train", 1) };
    let why = "its agent is of a release without gangs";
    assert_eq!(told(&|inventory| inventory.rendezvous = None, gang), unable(why));
    let no_host = |inventory: &mut Inventory| inventory.abilities.host_image = false;
    assert_eq!(told(&no_host, step("train", 1)), unable("image host is not allowed"));
    let no_containers = |inventory: &mut Inventory| {
        inventory.abilities.containers = false;
        inventory.abilities.enforcement = "no cgroups".to_owned();
    };
    assert_eq!(told(&no_containers, step("train", 1)), unable("it cannot run containers (no cgroups)"));
}

#[test]
fn a_node_that_is_not_heard_of_or_not_trusted_or_empty_is_told_so() {
    let mut cluster = Cluster::with_one_node();
    // Of four nodes one may be out, and the others are too small.
    for name in ["n2", "n3", "n4"] {
        cluster = cluster.with_node(name, |inventory| inventory.cpu_milli = 1_000);
    }
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    for _ in 0..20 {
        if cluster.state.node(NodeId(1)).unwrap().standing() == Standing::Shunned {
            break;
        }
        let task = key(cluster.submit(vec![step("train", 1)], Vec::new()), 0, 0);
        cluster.place(task);
        fail_by_hardware(&mut cluster, task);
    }
    let shunned = lacks(&mut cluster, step("train", 1)).remove(0);
    let until = cluster.state.node(NodeId(1)).unwrap().discredit.as_ref().unwrap().until.0;
    // When it was asked, before the job was cancelled.
    let left = crate::api::why::words::duration(until + 1 - cluster.state.time().0);
    let begins = "1 node: out, because too much failed there, such as n1: too much failed there, device last; it \
                  is given work again";
    assert_eq!(shunned, format!("{begins} in {left} at most"));
    let advice = cluster.submit(vec![step("train", 1)], Vec::new());
    assert!(cluster.task(key(advice, 0, 0)).advice.contains(&"fctl node forgive NODE".to_owned()));
    let health = |health| Command::SetNodeHealth { node: NodeId(1), incarnation: Incarnation(1), health };
    cluster.apply(health(Health::Suspect));
    let told = "1 node: silent, such as n1: nothing was heard of it for seconds";
    assert!(lacks(&mut cluster, step("train", 1)).contains(&told.to_owned()));
    cluster.apply(health(Health::Down));
    let told = "1 node: down, such as n1: nothing was heard of it for long";
    assert!(lacks(&mut cluster, step("train", 1)).contains(&told.to_owned()));
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let drain = NodeChange::Drain { deadline: None };
    let (by, reason) = ("ada".to_owned(), String::new());
    cluster.apply(Command::ChangeNode(ChangeNode { node: NodeId(1), change: drain, by, reason }));
    let told = "1 node: drained, such as n1: ada closed it to new work";
    assert_eq!(lacks(&mut cluster, step("train", 1)), [told]);
    assert_eq!(cluster.state.node(NodeId(1)).unwrap().scheduling, Scheduling::Drained);
    let mut empty = Cluster::empty();
    let job = empty.submit(vec![step("train", 1)], Vec::new());
    assert_eq!(empty.task(key(job, 0, 0)).reason, "no node has ever registered");
}

fn fail_by_hardware(cluster: &mut Cluster, task: TaskKey) {
    let end = End {
        outcome: AttemptOutcome::Failed,
        reason: Reason::Device,
        blame: Blame::Hardware,
        exit_code: None,
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    };
    let member = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
    let (phase, times, end) = (Phase::Ended, PhaseTimes::NONE, Some(Arc::new(end)));
    let report = AttemptReport { member, phase, times, end, checkpoint: None, stuck: None, saved_at: None };
    let (node, incarnation, reports) = (NodeId(1), Incarnation(1), vec![report]);
    cluster.apply(Command::ReportAttempts(ReportAttempts { node, incarnation, reports }));
}

#[test]
fn as_many_as_may_start_on_a_node_are_told_with_their_number() {
    let mut cluster = with_gpus(&[]);
    let throttle = flowyard_model::Throttle { per_job: None, per_node: Some(1) };
    cluster.apply(Command::PutPolicy(Policy { throttle, ..Policy::default() }.into()));
    run(&mut cluster, step("low", 1), &[]);
    assert_eq!(
        lacks(&mut cluster, step("train", 1)),
        ["1 node: as many starting there as may be, such as n1: 1 of at most 1 are placed there and do not run yet"]
    );
}

#[test]
fn where_a_gang_finds_no_room_so_near_is_told_with_the_place_that_has_most() {
    let zone = |value: Option<&str>, inventory: &mut Inventory| {
        inventory.labels.clear();
        inventory.labels.extend(value.map(|value| ("zone".parse().unwrap(), value.to_owned())));
    };
    let mut cluster = Cluster::empty()
        .with_node("n1", |inventory| zone(Some("a"), inventory))
        .with_node("n2", |inventory| zone(Some("b"), inventory));
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let topology = vec!["zone".parse().unwrap()];
    cluster.apply(Command::PutPolicy(Policy { topology, ..Policy::default() }.into()));
    let gang = |size| {
        let mut gang = StepSpec { size, ..step("train", 1) };
        gang.resources.cpu_milli = 1_000;
        gang.placing.near = Some(Near { level: "zone".parse().unwrap(), need: true });
        gang
    };
    run(&mut cluster, step("low", 1), &[]);
    let reason = |cluster: &mut Cluster, size| {
        let job = cluster.submit(vec![gang(size)], Vec::new());
        let told = cluster.task(key(job, 0, 0)).reason;
        cluster.apply(Command::CancelJob { job });
        told
    };
    let told = "it needs all 3 members in one zone; of 2 zones that it may go to, the one with the most room for \
                it (b) has room for 2 now; \
                none would hold more than 2 if nothing ran, so that it waits for more nodes";
    assert_eq!(reason(&mut cluster, 3), told);
    let mut cluster = cluster.with_node("n3", |inventory| {
        zone(None, inventory);
        inventory.cpu_milli = 3_000;
    });
    let told = "it needs all 4 members in one zone; of 3 zones that it may go to, the one with the most room for \
                it (a node without the \
                label zone) has room for 3 now; none would hold more than 3 if nothing ran, so that it waits for \
                more nodes";
    assert_eq!(reason(&mut cluster, 4), told);
    for node in 1..=3 {
        cluster.apply(Command::SetNodeScheduling { node: NodeId(node), scheduling: Scheduling::Drained });
    }
    let told = "it needs all 2 members in one zone, and no node in any of them suits it and takes new work";
    assert_eq!(reason(&mut cluster, 2), told);
}

#[test]
fn those_of_its_own_step_that_go_before_are_counted_and_so_is_room_that_there_is() {
    let mut cluster = Cluster::with_one_node();
    let job = cluster.submit(vec![StepSpec { max_parallel: Some(2), ..step("train", 3) }], Vec::new());
    let third = cluster.task(key(job, 0, 2)).reason;
    assert_eq!(third, "2 tasks of its step go before it, and `max_parallel` is 2");
    let first = cluster.task(key(job, 0, 0)).reason;
    assert_eq!(first, "1 of 1 node has room; it is placed with the next plan, unless others go first");
}
