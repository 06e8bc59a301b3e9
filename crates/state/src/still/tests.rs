//! A still job is the job that it would be otherwise, and every way leads to the same form.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    Command, Entry, FanOut, JobSpec, Name, Record, Reply, Revision, StepIndex, SubmitJob, TaskIndex, TaskKey,
    TaskState, TimeMs,
};
use proptest::prelude::*;

use super::*;
use crate::{apply, check_all};

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,6}", "\\PC{0,12}"]
}

fn a_name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9_.-]{0,8}".prop_map(|text| text.parse().unwrap())
}

/// Jobs some of which share all but their words, and some of which cannot be still.
fn a_job() -> impl Strategy<Value = (JobSpec, Option<String>, String)> {
    let words = (
        a_name(),
        prop::collection::btree_set("[a-z]{1,3}", 0..3),
        prop::collection::btree_map(a_name(), word(), 0..3),
        prop::collection::vec(word(), 1..4),
        prop::collection::btree_map("[A-Z]{1,4}", word(), 0..3),
    );
    let rest = (0u32..4, 0u64..3, prop::option::weighted(0.1, Just(1_000)), prop::bool::weighted(0.05));
    let who = (prop::option::of("[a-z]{1,9}"), "(ada|bob)");
    (words, rest, who).prop_map(|((name, tags, params, command, env), (count, memory, ttl, large), (key, owner))| {
        let mut spec = crate::fixture::job(count, memory);
        (spec.name, spec.tags, spec.params, spec.queue_ttl_ms) = (name, tags, params, ttl);
        (spec.steps[0].command, spec.steps[0].env) = (command, env);
        if large {
            spec.steps[0].command.push("x".repeat(4_000));
        }
        (spec, key, owner)
    })
}

/// Records of a state in which every job is whole.
fn whole(state: &State) -> State {
    let mut whole = state.clone();
    let all: Vec<JobId> = state.stills.iter().map(|(id, _)| id).collect();
    all.iter().for_each(|id| whole.thaw(*id));
    assert_eq!((whole.stills.len(), whole.stills.frames.len(), whole.stills.keys.len()), (0, 0, 0));
    whole
}

proptest! {
    #[test]
    fn a_still_job_reads_as_a_whole_one(wishes in prop::collection::vec(a_job(), 1..40), cancelled in 0u64..50) {
        let mut state = State::new();
        state.meta.version = flowyard_model::ClusterVersion::ACCESS;
        let mut specs = BTreeMap::new();
        for (at, (spec, key, owner)) in (1..).zip(wishes) {
            let spec_digest = Digest { hash: [at as u8; 32], length: at };
            let wish = SubmitJob { spec: Arc::new(spec.clone()), spec_digest, owner: owner.clone(), key: key.clone() };
            let again = Command::SubmitJob(wish.clone());
            let entry = |index, command| Entry { index: Revision(index), time: TimeMs(at), command };
            let reply = apply(&mut state, entry(2 * at, Command::SubmitJob(wish))).reply;
            if let Reply::Submitted { job, existing: false } = reply {
                specs.insert(job, (spec, key.clone(), owner));
            }
            let told = apply(&mut state, entry(2 * at + 1, again)).reply;
            match (reply, key) {
                (Reply::Submitted { job, .. }, Some(_)) => {
                    prop_assert_eq!(told, Reply::Submitted { job, existing: true });
                }
                (Reply::Rejected(_), _) => {}
                (_, None) => {
                    let Reply::Submitted { job, .. } = told else { panic!("it was not taken") };
                    specs.insert(job, specs[&JobId(job.0 - 1)].clone());
                }
                other => panic!("{other:?}"),
            }
        }
        let index = Revision(1_000);
        apply(&mut state, Entry { index, time: TimeMs(99), command: Command::CancelJob { job: JobId(cancelled) } });
        check_all(&state).unwrap();
        let read: BTreeMap<_, _> = state.jobs().map(|(id, job)| {
            (id, (JobSpec::clone(&job.spec), job.key.clone(), job.owner.clone()))
        }).collect();
        prop_assert_eq!(&read, &specs);
        let whole = whole(&state);
        let records: Vec<Record> = state.records().collect();
        prop_assert_eq!(&records, &whole.records().collect::<Vec<_>>());
        prop_assert!(State::from_records(records).unwrap() == state);
        for (id, job) in whole.jobs() {
            let (step, first) = (StepIndex(0), TaskKey { job: id, step: StepIndex(0), task: TaskIndex(0) });
            prop_assert_eq!(state.step(id, step), whole.step(id, step));
            prop_assert_eq!(state.counts(id, step), whole.counts(id, step));
            prop_assert_eq!(state.task_state(first), whole.task_state(first));
            prop_assert!(state.ready_tasks(id, step).eq(whole.ready_tasks(id, step)));
            for tag in ["a", "b", "ab"] {
                prop_assert_eq!(state.outline(id).unwrap().has_tag(tag), job.spec.tags.contains(tag));
            }
            let one = state.differences(&State { jobs: OrdMap::new(), stills: Stills::none(), ..state.clone() });
            prop_assert!(one.jobs.contains(&id));
        }
        let mut again = whole;
        specs.keys().for_each(|id| again.freeze(*id));
        prop_assert!(again == state, "whatever can be still is still again");
    }
}

#[test]
fn a_job_that_is_touched_is_whole_and_those_beside_it_are_still() {
    let mut state = State::new();
    for index in 1..=100 {
        let spec = crate::fixture::job(1, index % 3);
        let key = Some(format!("key-{index}"));
        let spec_digest = Digest { hash: [7; 32], length: index };
        let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "ada".to_owned(), key };
        apply(&mut state, Entry { index: Revision(index), time: TimeMs(1), command: Command::SubmitJob(wish) });
    }
    assert_eq!((state.stills.len(), state.jobs.len(), state.stills.frames.len()), (100, 0, 3));
    let before = state.clone();
    let cancel = Command::CancelJob { job: JobId(50) };
    apply(&mut state, Entry { index: Revision(101), time: TimeMs(2), command: cancel });
    assert_eq!((state.stills.len(), state.jobs.len()), (99, 1));
    let key = SubmissionKey { owner: "ada".to_owned(), key: "key-50".to_owned() };
    assert_eq!(state.submission(&key), before.submission(&key));
    assert_eq!(state.differences(&before).jobs, BTreeSet::from([JobId(50)]));
    assert_eq!(
        before.task_state(TaskKey { job: JobId(50), step: StepIndex(0), task: TaskIndex(0) }),
        Some(TaskState::Ready)
    );
    check_all(&state).unwrap();
}

#[test]
fn a_job_without_its_step_is_no_snapshot() {
    let mut state = State::new();
    let wish = SubmitJob {
        spec: Arc::new(crate::fixture::job(0, 1)),
        spec_digest: Digest { hash: [7; 32], length: 1 },
        owner: "ada".to_owned(),
        key: None,
    };
    apply(&mut state, Entry { index: Revision(1), time: TimeMs(1), command: Command::SubmitJob(wish) });
    assert_eq!(state.job(JobId(1)).unwrap().spec.steps[0].fan_out, FanOut::Single);
    let without = state.records().filter(|record| !matches!(record, Record::Step(..)));
    assert_eq!(State::from_records(without), Err(crate::RecordError::Stepless { job: JobId(1) }));
}
