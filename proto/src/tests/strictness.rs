//! Each rule of the contract refuses once what breaks it, and names the field.

use std::sync::Arc;

use flowyard_model::{
    AttemptReport, Blame, ClusterVersion, Command, Desired, End, GpuClass, Inventory, JobId, JobSpec, Logs, MemberKey,
    NetworkMode, Phase, PhaseTimes, Plan, Queue, QueueAmounts, Ranges, Reason, ReportAttempts, TaskKey, TimeMs, limits,
};
use prost::Message;

use crate::decode::{Decoded, Problem};
use crate::{agent, api, decode_entry, decode_spec, encode_entry, encode_spec, peer, request};

fn digest() -> api::Digest {
    api::Digest { hash: vec![7; 32].into(), length: 7 }
}

fn short_digest() -> api::Digest {
    api::Digest { hash: vec![7; 31].into(), length: 7 }
}

fn step() -> api::StepSpec {
    api::StepSpec {
        name: "train".into(),
        command: vec!["true".into()],
        image: Some(api::Image { kind: Some(api::image::Kind::Host(api::image::Host {})) }),
        isolation: 1,
        fan_out: Some(api::FanOut { kind: Some(api::fan_out::Kind::Single(api::fan_out::Single {})) }),
        resources: Some(api::Resources { cpu_milli: 1, memory_bytes: 1, ..Default::default() }),
        size: 1,
        retry: Some(api::Retry::default()),
        on_failure: 1,
        network: 1,
        on_disconnect: 1,
        ..Default::default()
    }
}

fn spec() -> api::JobSpec {
    api::JobSpec { name: "iris".into(), queue: "default".into(), steps: vec![step()], ..Default::default() }
}

fn said<T: std::fmt::Debug>(decoded: Decoded<T>) -> String {
    decoded.unwrap_err().to_string()
}

/// What is said of the spec after its step was changed.
fn step_says(change: impl FnOnce(&mut api::StepSpec)) -> String {
    let mut spec = spec();
    change(&mut spec.steps[0]);
    said(JobSpec::try_from(spec))
}

#[test]
fn the_base_of_these_tests_is_accepted() {
    assert!(JobSpec::try_from(spec()).is_ok());
    assert!(AttemptReport::try_from(api::AttemptReport::from(&report())).is_ok());
}

#[test]
fn missing_messages_and_quantities_are_named() {
    assert_eq!(step_says(|step| step.resources = None), "steps[0].resources: missing");
    assert_eq!(step_says(|step| step.image = Some(api::Image { kind: None })), "steps[0].image.kind: missing");
    assert_eq!(step_says(|step| step.size = 0), "steps[0].size: missing");
    let no_cpu = api::Resources { memory_bytes: 1, ..Default::default() };
    assert_eq!(step_says(|step| step.resources = Some(no_cpu)), "steps[0].resources.cpu_milli: missing");
    let mount = api::HostMount { path: String::new(), read_only: true };
    assert_eq!(step_says(|step| step.mounts = vec![mount]), "steps[0].mounts[0].path: missing");
}

#[test]
fn enums_must_be_given_and_known() {
    assert_eq!(step_says(|step| step.network = 0), "steps[0].network: missing");
    assert_eq!(step_says(|step| step.network = 9), "steps[0].network: 9 is not a value this build knows");
    assert_eq!(step_says(|step| step.needs = [(4, 0)].into()), "steps[0].needs[4]: missing");
}

#[test]
fn a_step_takes_the_usual_network_or_names_one() {
    let says = |network| step_says(|step| (step.network, step.usual_network) = (network, true));
    let refused = "steps[0].network: a step that takes the usual network names none but the host's";
    assert_eq!(says(api::NetworkMode::Private.into()), refused);
    assert_eq!(says(api::NetworkMode::None.into()), refused);
    assert_eq!(says(9), "steps[0].network: 9 is not a value this build knows");
}

#[test]
fn a_cluster_that_knows_no_usual_network_gives_the_hosts() {
    let mut wish = JobSpec::try_from(spec()).unwrap();
    wish.steps[0].network = NetworkMode::Usual;
    let mut sent = api::JobSpec::from(&wish);
    assert_eq!(JobSpec::try_from(sent.clone()).unwrap().steps[0].network, NetworkMode::Usual);
    // As it is read by 0.1.0.
    sent.steps[0].usual_network = false;
    assert_eq!(JobSpec::try_from(sent).unwrap().steps[0].network, NetworkMode::Host);
}

#[test]
fn names_and_paths_must_be_what_they_are() {
    let said_of = step_says(|step| step.name = "a/b".into());
    assert!(said_of.starts_with("steps[0].name: a name consists of letters"), "{said_of}");
    let key = step_says(|step| step.outputs = [("\u{1b}[31m".into(), "x".into())].into());
    assert!(key.starts_with("steps[0].outputs: a name starts with") && !key.contains('\u{1b}'), "{key}");
    let queue = said(JobSpec::try_from(api::JobSpec { queue: "a//b".into(), ..spec() }));
    assert_eq!(queue, "queue: part 2 of a queue path: a name must not be empty");
}

#[test]
fn digests_have_32_bytes() {
    let said_of = step_says(|step| step.code = Some(short_digest()));
    assert_eq!(said_of, "steps[0].code.hash: a hash has 32 bytes, this one has 31");
    let stored = api::Input { source: Some(api::input::Source::Stored(short_digest())) };
    let said_of = step_says(|step| step.inputs = [("data".into(), stored)].into());
    assert_eq!(said_of, "steps[0].inputs.data.stored.hash: a hash has 32 bytes, this one has 31");
}

#[test]
fn a_set_has_nothing_twice() {
    let twice = api::JobSpec { tags: vec!["a".into(), "b".into(), "a".into()], ..spec() };
    assert_eq!(said(JobSpec::try_from(twice)), "tags[2]: given twice");
    let retry = api::Retry { on: vec![1, 1], ..Default::default() };
    assert_eq!(step_says(|step| step.retry = Some(retry)), "steps[0].retry.on[1]: given twice");
}

#[test]
fn ranges_ascend_and_do_not_overlap() {
    let says = |bounds: &[u32]| said(Ranges::try_from(peer::Ranges { bounds: bounds.to_vec() }));
    for bad in [&[0, 5, 4, 6][..], &[3, 3], &[0, 1, 1, 2], &[1], &[4, 5, 0, 1]] {
        assert_eq!(says(bad), "bounds: ranges must not be empty and must not overlap", "{bad:?}");
    }
    assert_eq!(Ranges::try_from(peer::Ranges { bounds: vec![0, u32::MAX] }).unwrap(), Ranges::span(0, u32::MAX));
}

fn report() -> AttemptReport {
    AttemptReport {
        member: MemberKey {
            task: TaskKey { job: JobId(1), step: flowyard_model::StepIndex(0), task: flowyard_model::TaskIndex(0) },
            attempt: flowyard_model::AttemptNumber(1),
            rank: flowyard_model::Rank(0),
            epoch: flowyard_model::Epoch(0),
            replacement: 0,
        },
        phase: Phase::Ended,
        times: PhaseTimes::NONE,
        end: Some(Arc::new(End {
            outcome: flowyard_model::AttemptOutcome::Succeeded,
            reason: Reason::Exit,
            blame: Blame::User,
            exit_code: Some(0),
            signal: None,
            message: String::new(),
            peak_memory_bytes: 0,
            cpu_us: 0,
            outputs: [].into(),
            logs: Logs::NONE,
        })),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    }
}

fn reports(reports: Vec<AttemptReport>) -> Command {
    let (node, incarnation) = (flowyard_model::NodeId(1), flowyard_model::Incarnation(1));
    Command::ReportAttempts(ReportAttempts { node, incarnation, reports })
}

#[test]
fn an_end_and_the_last_phase_go_together() {
    let wire = |change: fn(&mut api::AttemptReport)| {
        let mut wire = api::AttemptReport::from(&report());
        change(&mut wire);
        said(AttemptReport::try_from(wire))
    };
    assert_eq!(wire(|report| report.end = None), "end: missing");
    assert_eq!(wire(|report| report.phase = 4), "end: only a member that has ended has an end");
    let half = AttemptReport { end: None, ..report() };
    let error = encode_entry(TimeMs(1), &reports(vec![report(), half])).unwrap_err();
    assert_eq!(error.to_string(), "cannot be written: reports[1].end: missing");
}

#[test]
fn batches_and_messages_are_bounded_on_both_sides() {
    let batch = reports(vec![report(); limits::REPORTS_PER_ENTRY]);
    assert!(decode_entry(&encode_entry(TimeMs(1), &batch).unwrap()).is_ok());
    let batch = reports(vec![report(); limits::REPORTS_PER_ENTRY + 1]);
    assert!(encode_entry(TimeMs(1), &batch).unwrap_err().is_too_large());
    let joined = |agents: usize, each: usize| {
        let one = reports(vec![report(); each]).reports()[0].clone();
        encode_entry(TimeMs(1), &Command::ReportMany(vec![one; agents]))
    };
    assert!(decode_entry(&joined(limits::REPORTS_PER_ENTRY / 10, 10).unwrap()).is_ok());
    assert!(joined(limits::REPORTS_PER_ENTRY / 10 + 1, 10).unwrap_err().is_too_large());
    assert!(joined(limits::REPORTS_PER_ENTRY + 1, 0).unwrap_err().is_too_large());

    let mut long = report();
    Arc::make_mut(long.end.as_mut().unwrap()).message = "x".repeat(limits::MESSAGE_BYTES + 1);
    assert!(encode_entry(TimeMs(1), &reports(vec![long.clone()])).unwrap_err().is_too_large());
    let said_of = said(AttemptReport::try_from(api::AttemptReport::from(&long)));
    assert_eq!(said_of, "end.message: at most 1024 bytes, this has 1025");
}

#[test]
fn an_entry_over_the_limit_is_neither_written_nor_read() {
    let jobs = (0..limits::ENTRY_BYTES as u64).map(JobId).collect();
    let error = encode_entry(TimeMs(1), &Command::ForgetJobs { jobs }).unwrap_err();
    assert!(matches!(error.reason().problem, Problem::TooLarge { most: limits::ENTRY_BYTES, .. }));
    assert!(matches!(decode_entry(&vec![0; limits::ENTRY_BYTES + 1]).unwrap_err().problem, Problem::TooLarge { .. }));
    let wide = api::JobSpec { tags: vec!["x".repeat(limits::SPEC_BYTES)], ..spec() }.try_into().unwrap();
    assert!(encode_spec(&wide).unwrap_err().is_too_large());
    assert!(matches!(decode_spec(&vec![0; limits::SPEC_BYTES + 1]).unwrap_err().problem, Problem::TooLarge { .. }));
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let mut spec = JobSpec::try_from(spec()).unwrap();
    spec.steps[0].resources.cpu_milli = 0;
    let submit = flowyard_model::SubmitJob {
        spec: Arc::new(spec),
        spec_digest: digest().try_into().unwrap(),
        owner: "root".into(),
        key: None,
    };
    let error = encode_entry(TimeMs(1), &Command::SubmitJob(submit)).unwrap_err();
    assert_eq!(error.to_string(), "cannot be written: submit_job.spec.steps[0].resources.cpu_milli: missing");
}

#[test]
fn an_unknown_command_or_format_is_told_apart_from_damage() {
    let entry = |format, command| peer::LogEntry { format, time_ms: 5, command }.encode_to_vec();
    let tick = Some(peer::log_entry::Command::Tick(peer::Tick {}));
    assert_eq!(decode_entry(&entry(1, tick.clone())), Ok((TimeMs(5), Command::Tick)));
    let newer = decode_entry(&entry(2, tick.clone())).unwrap_err().problem;
    assert!(newer == Problem::UnknownFormat { format: 2 } && newer.is_newer());
    assert_eq!(said(decode_entry(&entry(0, tick))), "format: missing");

    // Field 2000 holds an empty message: a command of a later release.
    let mut bytes = entry(1, None);
    bytes.extend_from_slice(&[0x82, 0x7d, 0]);
    let unknown = decode_entry(&bytes).unwrap_err().problem;
    assert!(unknown == Problem::UnknownCommand && unknown.is_newer());

    let damaged = decode_entry(&[0x08]).unwrap_err().problem;
    assert!(matches!(damaged, Problem::Malformed(_)) && !damaged.is_newer());
    let none = crate::decode_record(&[]).unwrap_err().problem;
    assert!(none == Problem::UnknownRecord && none.is_newer());
}

fn queue() -> peer::Queue {
    peer::Queue { path: "lab/vision".into(), weight: 1, ..Default::default() }
}

#[test]
fn amounts_of_a_queue_are_of_models_in_lower_case_and_of_tokens_with_names() {
    let says = |amounts| said(Queue::try_from(peer::Queue { borrow: Some(amounts), ..queue() }));
    let gpus = api::QueueAmounts { gpu_model_milli: [("A100".into(), 1)].into(), ..Default::default() };
    assert_eq!(says(gpus), "borrow.gpu_model_milli: models are in lower case");
    let tokens = api::QueueAmounts { tokens: [("a b".into(), 1)].into(), ..Default::default() };
    assert!(says(tokens).starts_with("borrow.tokens: a name consists of letters"));
    assert_eq!(said(Queue::try_from(peer::Queue { weight: 0, ..queue() })), "weight: missing");
}

#[test]
fn amounts_that_are_not_given_are_not_named_and_those_that_are_none_are() {
    assert_eq!(Queue::try_from(queue()), Ok(Queue::new("lab/vision".parse().unwrap())));
    let none = api::QueueAmounts { cpu_milli: Some(0), gpu_milli: Some(0), ..Default::default() };
    let limit = Queue::try_from(peer::Queue { limit: Some(none), ..queue() }).unwrap().limit;
    assert_eq!((limit.cpu_milli, limit.memory_bytes), (Some(0), None));
    assert_eq!(limit.gpu_milli, [(GpuClass::Any, 0)].into());
}

#[test]
fn a_queue_without_amounts_is_written_as_0_1_0_wrote_it() {
    let wish = Queue { max_active: Some(3), ..Queue::new("lab".parse().unwrap()) };
    let former = peer::Queue { path: "lab".into(), weight: 1, max_active: Some(3), ..Default::default() };
    assert_eq!(peer::Queue::from(&wish).encode_to_vec(), former.encode_to_vec());
    assert_eq!(Command::PutQueue(wish.clone().into()).needs(), ClusterVersion(1));
    let lend = QueueAmounts { cpu_milli: Some(0), ..QueueAmounts::default() };
    assert_eq!(Command::PutQueue(Queue { lend, ..wish }.into()).needs(), ClusterVersion::ACCESS);
}

#[test]
fn a_claim_says_of_which_task_for_which_attempt_and_who_leaves_by_what_right() {
    let task = Some(api::TaskKey { job: 1, step: 0, task: 0 });
    let eviction = peer::Eviction { task, attempt: 1, kind: 1 };
    let awaits = vec![peer::Awaited { task, attempt: 1 }];
    let wish = peer::ClaimWish { task, attempt: 1, members: vec![], evictions: vec![eviction], awaits };
    let says = |change: &dyn Fn(&mut peer::ClaimWish)| {
        let mut wish = wish.clone();
        change(&mut wish);
        Plan::try_from(peer::Plan { claims: vec![wish], ..Default::default() }).map(drop).map_err(|it| it.to_string())
    };
    assert_eq!(says(&|_| ()), Ok(()));
    let refused = |change: &dyn Fn(&mut peer::ClaimWish)| says(change).unwrap_err();
    assert_eq!(refused(&|wish| wish.task = None), "claims[0].task: missing");
    assert_eq!(refused(&|wish| wish.attempt = 0), "claims[0].attempt: missing");
    assert_eq!(refused(&|wish| wish.evictions[0].task = None), "claims[0].evictions[0].task: missing");
    assert_eq!(refused(&|wish| wish.evictions[0].kind = 0), "claims[0].evictions[0].kind: missing");
    assert_eq!(refused(&|wish| wish.awaits[0].task = None), "claims[0].awaits[0].task: missing");
    assert_eq!(refused(&|wish| wish.awaits[0].attempt = 0), "claims[0].awaits[0].attempt: missing");
    let unknown = "claims[0].evictions[0].kind: 9 is not a value this build knows";
    assert_eq!(refused(&|wish| wish.evictions[0].kind = 9), unknown);
    let many = peer::Plan { claims: vec![wish.clone(); limits::CLAIMS + 1], ..Default::default() };
    assert_eq!(said(Plan::try_from(many)), "claims: at most 4096, these are 4097");
    let notice = api::Notice { signal: 4, ms: 0 };
    assert_eq!(step_says(|step| step.notice = Some(notice)), "steps[0].notice.ms: missing");
    let notice = api::Notice { signal: 40, ms: 1 };
    assert!(step_says(|step| step.notice = Some(notice)).starts_with("steps[0].notice.signal: 40 is not"));
}

#[test]
fn what_names_nothing_of_evictions_is_as_0_1_0_has_it() {
    let plain = Plan::try_from(peer::Plan { based_on: 3, ..Default::default() }).unwrap();
    assert_eq!(Command::CommitPlan(plain.clone()).needs(), ClusterVersion(1));
    let task = TaskKey { job: JobId(1), step: flowyard_model::StepIndex(0), task: flowyard_model::TaskIndex(0) };
    for newer in [Plan { at: Some(TimeMs(0)), ..plain.clone() }, Plan { drops: vec![task], ..plain }] {
        assert_eq!(Command::CommitPlan(newer).needs(), ClusterVersion::ACCESS);
    }
    let former = JobSpec::try_from(spec()).unwrap();
    assert!(former.steps[0].preemptible && former.steps[0].notice.is_none() && !former.is_newer());
    let mut kept = former.clone();
    kept.steps[0].preemptible = false;
    assert!(kept.is_newer() && encode_spec(&kept).unwrap().len() > encode_spec(&former).unwrap().len());
    let contract = Some(flowyard_model::Contract::DEFAULT);
    let queue = Queue { contract, ..Queue::new("lab".parse().unwrap()) };
    assert_eq!(Command::PutQueue(queue.into()).needs(), ClusterVersion::ACCESS);
}

#[test]
fn an_account_says_nothing_twice_and_nothing_of_nothing() {
    let good = peer::Account {
        queue: "lab".into(),
        owner: "ada".into(),
        held: Some(peer::Held::default()),
        decayed: Some(peer::Usage::default()),
        current: Some(peer::Usage::default()),
        ..Default::default()
    };
    let says = |change: &dyn Fn(&mut peer::Account)| {
        let mut account = good.clone();
        change(&mut account);
        let record = peer::Record { kind: Some(peer::record::Kind::Account(account)) };
        crate::decode_record(&record.encode_to_vec()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(says(&|_| ()), Ok(()));
    let refused = |change: &dyn Fn(&mut peer::Account)| says(change).unwrap_err();
    assert_eq!(refused(&|account| account.held = None), "account.held: missing");
    let held = |key: &str, milli| peer::Held { gpu_milli: [(key.into(), milli)].into(), ..Default::default() };
    assert_eq!(
        refused(&|account| account.held = Some(held("A100", 1))),
        "account.held.gpu_milli: models are in lower case"
    );
    assert_eq!(refused(&|account| account.held = Some(held("a100", 0))), "account.held: what is not held has no key");
    let none = peer::Usage { cpu_milli_ms: Some(peer::Wide::default()), ..Default::default() };
    assert_eq!(refused(&|account| account.decayed = Some(none.clone())), "account.decayed.cpu_milli_ms: missing");
    let bucket = |start_ms| peer::UsageBucket { start_ms, used: Some(peer::Usage::default()) };
    let twice = vec![bucket(3_600_000), bucket(3_600_000)];
    assert_eq!(refused(&|account| account.days = twice.clone()), "account.days: spans of time ascend");
}

#[test]
fn only_a_waiting_task_has_a_time() {
    let task = |state, waiting_until_ms| api::Task { state, waiting_until_ms, ..Default::default() };
    assert_eq!(said(crate::view::state_of(&task(3, None))), "waiting_until_ms: missing");
    let said_of = said(crate::view::state_of(&task(4, Some(1))));
    assert_eq!(said_of, "waiting_until_ms: only a waiting task waits for a time");
    assert_eq!(said(crate::view::state_of(&task(0, None))), "state: missing");
}

#[test]
fn a_former_registration_is_given_whole_or_not() {
    let inventory = Some(api::Inventory { abilities: Some(api::Abilities::default()), ..Default::default() });
    let hello = agent::Hello { name: "n1".into(), inventory, previous_node: Some(3), ..Default::default() };
    assert_eq!(said(request::hello(hello)), "previous_incarnation: missing");
    assert_eq!(said(Inventory::try_from(api::Inventory::default())), "abilities: missing");
}

#[test]
fn entries_of_a_join_ascend_below_its_count() {
    let desired = |tasks: &[u32]| {
        let entry = |task: &u32| agent::JoinEntry { task: *task, manifest: Some(digest()) };
        let join = agent::Join { count: 3, entries: tasks.iter().map(entry).collect() };
        let input = agent::ResolvedInput { kind: Some(agent::resolved_input::Kind::Join(join)) };
        let member = agent::DesiredMember {
            key: Some(api::MemberKey::default()),
            inputs: [("models".into(), input)].into(),
            known: 1,
            ..Default::default()
        };
        Desired::try_from(agent::Desired { sequence: 1, run: vec![member], ..Default::default() })
    };
    assert!(desired(&[0, 2]).is_ok());
    let bad = "run[0].inputs.models.join.entries[1]: tasks ascend, and all are below the count";
    for tasks in [[1, 0], [1, 1], [1, 3]] {
        assert_eq!(said(desired(&tasks)), bad);
    }
}

#[test]
fn a_submission_key_is_a_short_harmless_text() {
    let says = |key: &str| said(request::submission(api::SubmitRequest { spec: Some(spec()), key: Some(key.into()) }));
    assert_eq!(says(""), "key: missing");
    assert_eq!(says("a\nb"), "key: must not have control characters");
    assert_eq!(says(&"k".repeat(257)), "key: at most 256 bytes, this has 257");
}

#[test]
fn queues_are_put_each_once_and_not_too_many() {
    let queue = |path: &str| api::Queue { path: path.to_owned(), weight: 1, ..Default::default() };
    let put = |queues: Vec<api::Queue>| request::put_queues(api::PutQueuesRequest { queues });
    assert_eq!(put(vec![queue("b"), queue("a")]).unwrap().len(), 2);
    assert_eq!(said(put(vec![queue("a"), queue("b"), queue("a")])), "queues[2]: given twice");
    let many: Vec<_> = (0..=limits::QUEUES_PER_CALL).map(|at| queue(&format!("q{at}"))).collect();
    assert_eq!(said(put(many)), "queues: at most 1000, these are 1001");
    let models = [("H100".to_owned(), 1)].into();
    let limit = Some(api::QueueAmounts { gpu_model_milli: models, ..Default::default() });
    let shouted = api::Queue { limit, ..queue("a") };
    assert_eq!(said(put(vec![shouted])), "queues[0].limit.gpu_model_milli: models are in lower case");
    assert!(said(request::queue_path("a//b")).starts_with("path: part 2 of a queue path"));
}

#[test]
fn how_near_devices_have_to_be_is_a_level_that_is_known_and_said_once() {
    let asking = |gpu: api::GpuRequest| {
        let mut spec = spec();
        let resources = spec.steps[0].resources.as_mut().unwrap();
        resources.gpus = vec![api::GpuRequest { count: 2, share_milli: 1_000, ..gpu }];
        JobSpec::try_from(spec)
    };
    let older = asking(api::GpuRequest { same_link_group: true, ..Default::default() }).unwrap();
    assert!(!older.is_newer(), "as 0.1.0 says it");
    let plain = asking(api::GpuRequest::default()).unwrap();
    assert!(!plain.is_newer() && encode_spec(&plain).unwrap().len() < encode_spec(&older).unwrap().len());
    let near = asking(api::GpuRequest { link: Some(api::GpuLink::Numa.into()), ..Default::default() }).unwrap();
    assert!(near.is_newer());
    assert_eq!(near.steps[0].resources.gpus[0].near(), Some(flowyard_model::GpuLink::Numa));
    let unknown = said(asking(api::GpuRequest { link: Some(9), ..Default::default() }));
    assert!(unknown.starts_with("steps[0].resources.gpus[0].link: 9 is not"), "{unknown}");
    let none = said(asking(api::GpuRequest { link: Some(0), ..Default::default() }));
    assert_eq!(none, "steps[0].resources.gpus[0].link: missing");
    let both = api::GpuRequest { link: Some(api::GpuLink::Pcie.into()), same_link_group: true, ..Default::default() };
    let refused = flowyard_model::validate(&asking(both).unwrap()).unwrap_err().to_string();
    assert!(refused.contains("gpu.link") && refused.contains("not both"), "{refused}");
}
