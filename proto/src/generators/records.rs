//! Records of the state.

use std::sync::Arc;

use flowyard_model::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

/// A node's health.
pub fn health() -> impl Strategy<Value = Health> {
    one_of!(Health { Up, Suspect, Down })
}

/// Whether work may be placed on a node.
pub fn scheduling() -> impl Strategy<Value = Scheduling> {
    one_of!(Scheduling { Open, Drained })
}

fn job_outcome() -> impl Strategy<Value = JobOutcome> {
    one_of!(JobOutcome { Succeeded, Failed, Cancelled })
}

prop_compose! {
    /// Amounts of some resources.
    pub fn queue_amounts()(
        cpu_milli in any::<Option<u64>>(),
        memory_bytes in any::<Option<u64>>(),
        disk_bytes in any::<Option<u64>>(),
        gpu_milli in btree_map(gpu_class(), any::<u64>(), 0..3),
        tokens in btree_map(name(), any::<u64>(), 0..3),
    ) -> QueueAmounts {
        QueueAmounts { cpu_milli, memory_bytes, disk_bytes, gpu_milli, tokens }
    }
}

prop_compose! {
    /// What live members hold.
    pub fn held()(
        cpu_milli in any::<u64>(),
        memory_bytes in any::<u64>(),
        disk_bytes in any::<u64>(),
        gpu_milli in btree_map(gpu_model(), 1u64.., 0..3),
        tokens in btree_map(name(), 1u64.., 0..3),
    ) -> Held {
        Held { cpu_milli, memory_bytes, disk_bytes, gpu_milli, tokens }
    }
}

prop_compose! {
    /// What was used.
    pub fn usage()(
        cpu_milli_ms in any::<u128>(),
        memory_byte_ms in any::<u128>(),
        disk_byte_ms in 0u128..2,
        gpu_milli_ms in btree_map(gpu_model(), 1u128.., 0..3),
        token_ms in btree_map(name(), 1u128.., 0..3),
    ) -> Usage {
        Usage { cpu_milli_ms, memory_byte_ms, disk_byte_ms, gpu_milli_ms, token_ms }
    }
}

fn buckets() -> impl Strategy<Value = Arc<Vec<UsageBucket>>> {
    let buckets = btree_map(any::<u64>(), usage(), 0..3);
    buckets.prop_map(|buckets| {
        Arc::new(buckets.into_iter().map(|(start, used)| UsageBucket { start: TimeMs(start), used }).collect())
    })
}

prop_compose! {
    /// An account of the ledger.
    pub fn account()(
        held in held(),
        active in any::<u32>(),
        at in time(),
        decayed in usage(),
        current in usage(),
        hours in buckets(),
        days in buckets(),
    ) -> Account {
        Account { held, active, at, decayed, current, hours, days }
    }
}

fn gpu_model() -> impl Strategy<Value = GpuClass> {
    "[a-z0-9 ]{0,6}".prop_map(GpuClass::Model)
}

fn gpu_class() -> impl Strategy<Value = GpuClass> {
    prop_oneof![Just(GpuClass::Any), gpu_model()]
}

prop_compose! {
    /// What an attempt is promised that may be evicted.
    pub fn contract()(min_run_ms in any::<u64>(), notice_ms in any::<u64>(), kill_within_ms in any::<u64>()) -> Contract {
        Contract { min_run_ms, notice_ms, kill_within_ms }
    }
}

fn eviction_kind() -> impl Strategy<Value = EvictionKind> {
    one_of!(EvictionKind { Priority, Reclaim })
}

prop_compose! {
    /// That an attempt was evicted.
    pub fn preempted()(kind in eviction_kind(), by in task_key(), at in time()) -> Preempted {
        Preempted { kind, by, at }
    }
}

prop_compose! {
    /// An attempt that is to leave.
    pub fn eviction()(task in task_key(), attempt in 1u32.., kind in eviction_kind()) -> Eviction {
        Eviction { task, attempt: AttemptNumber(attempt), kind }
    }
}

prop_compose! {
    /// Room that a waiting task is promised.
    pub fn claim()(
        attempt in 1u32..,
        members in vec(seat(), 0..3),
        evictions in vec(eviction(), 0..3),
        made_at in time(),
        until in time(),
        awaits in vec(awaited(), 0..3),
        starts_at in option::of(time()),
    ) -> Claim {
        Claim { attempt: AttemptNumber(attempt), members, evictions, made_at, until, awaits, starts_at }
    }
}

prop_compose! {
    /// An attempt whose end is waited for.
    pub fn awaited()(task in task_key(), attempt in 1u32..) -> Awaited {
        Awaited { task, attempt: AttemptNumber(attempt) }
    }
}

prop_compose! {
    /// A queue.
    pub fn queue()(
        path in queue_path(),
        weight in 1u32..,
        max_active in any::<Option<u32>>(),
        limit in queue_amounts(),
        reserve in queue_amounts(),
        borrow in queue_amounts(),
        lend in queue_amounts(),
        contract in option::of(contract()),
        no_preempt in queue_amounts(),
    ) -> Queue {
        Queue { path, weight, max_active, limit, reserve, borrow, lend, contract, no_preempt }
    }
}

prop_compose! {
    /// The scalars of a state, of a version this build knows.
    pub fn meta()(
        revision in any::<u64>(),
        time in time(),
        next_job in job_id(),
        next_node in node_id(),
        epoch in any::<u32>(),
    ) -> Meta {
        let (revision, epoch) = (Revision(revision), Epoch(epoch));
        Meta { revision, time, version: ClusterVersion::NEWEST, next_job, next_node, epoch }
    }
}

prop_compose! {
    /// What is held of a node.
    pub fn used()(
        cpu_milli in any::<u64>(),
        memory_bytes in any::<u64>(),
        disk_bytes in any::<u64>(),
        gpu_milli in vec(any::<u32>(), 0..4),
        tokens in by_name(any::<u32>()),
        members in any::<u32>(),
        declared_ in vec((any::<u32>(), any::<u64>()), 0..3),
    ) -> Used {
        let declared = |(share_milli, memory_bytes)| Declared { share_milli, memory_bytes };
        let declared = declared_.into_iter().map(declared).collect();
        Used { cpu_milli, memory_bytes, disk_bytes, gpu_milli, tokens, members, declared }
    }
}

/// How a node becomes empty.
pub fn drain() -> impl Strategy<Value = Drain> {
    prop_oneof![Just(Drain::Unhurried), time().prop_map(Drain::Until), time().prop_map(Drain::Stopping)]
}

prop_compose! {
    /// How a node was closed.
    pub fn closure()(drain in option::of(drain()), by in text(), reason in text(), at in time()) -> Closure {
        Closure { drain, by, reason, at }
    }
}

prop_compose! {
    /// A node.
    pub fn node()(
        name in name(),
        incarnation in incarnation(),
        inventory in inventory().boxed(),
        health in health(),
        scheduling in scheduling(),
        closure in option::of(closure().prop_map(Arc::new)),
        registered_at in time(),
        used in used(),
        discredit in option::of(discredit().prop_map(Arc::new)),
        devices in btree_map(text(), condition(), 0..3),
    ) -> Node {
        let inventory = Arc::new(inventory);
        Node { name, incarnation, inventory, health, scheduling, closure, registered_at, used, discredit, devices }
    }
}

/// How well a device is.
pub fn device_state() -> impl Strategy<Value = DeviceState> {
    one_of!(DeviceState { Healthy, Degraded, Faulty })
}

prop_compose! {
    fn taken_out()(by in text(), reason in text(), at in time()) -> TakenOut {
        TakenOut { by, reason, at }
    }
}

prop_compose! {
    fn condition()(
        state in device_state(),
        reason in text(),
        since in time(),
        out in option::of(taken_out().prop_map(Arc::new)),
    ) -> Condition {
        Condition { state, reason, since, out }
    }
}

prop_compose! {
    fn charge()(
        at in time(),
        reason in reason(),
        blame in one_of!(Blame { User, Platform, Hardware }),
        member in option::of(member_key()),
    ) -> Charge {
        Charge { at, reason, blame, member }
    }
}

prop_compose! {
    /// What is held against a node.
    pub fn discredit()(
        points_milli in any::<u64>(),
        at in time(),
        standing in one_of!(Standing { Trusted, Avoided, Shunned }),
        until in time(),
        recent in vec(charge(), 0..4),
    ) -> Discredit {
        Discredit { points_milli, at, standing, until, recent }
    }
}

prop_compose! {
    /// The end of a job.
    pub fn job_end()(outcome in job_outcome(), at in time()) -> JobEnd {
        JobEnd { outcome, at }
    }
}

prop_compose! {
    /// A job.
    pub fn job()(
        spec in job_spec().boxed(),
        owner in text(),
        key in option::of(text()),
        submitted_at in time(),
        desired in prop_oneof![Just(JobDesired::Run), job_outcome().prop_map(JobDesired::Stop)],
        waits_for in any::<u32>(),
        open_steps in any::<u32>(),
        ended in option::of(job_end()),
        overdue in option::of(one_of!(Overdue { Deadline, QueueTtl })),
        startable_at in option::of(time()),
    ) -> Job {
        let spec = Arc::new(spec);
        Job { spec, owner, key, submitted_at, desired, waits_for, open_steps, ended, overdue, startable_at }
    }
}

/// A set of task indexes.
pub fn ranges() -> impl Strategy<Value = Ranges> {
    btree_set(any::<u32>(), 0..8).prop_map(|bounds| {
        let bounds: Vec<_> = bounds.into_iter().collect();
        let pairs = bounds.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        Ranges::from_pairs(pairs).expect("ascending bounds are a set")
    })
}

prop_compose! {
    /// Tasks that come from one list.
    pub fn segment()(parent in any::<u32>(), start in any::<u32>(), list in item_list()) -> Segment {
        Segment { parent: TaskIndex(parent), start: TaskIndex(start), list }
    }
}

prop_compose! {
    /// Counts of tasks.
    pub fn task_counts()(counts in any::<[u32; 8]>()) -> TaskCounts {
        let [blocked, ready, waiting, active, succeeded, failed, cancelled, skipped] = counts;
        TaskCounts { blocked, ready, waiting, active, succeeded, failed, cancelled, skipped }
    }
}

prop_compose! {
    /// A step.
    pub fn step()(
        count in any::<Option<u32>>(),
        segments in vec(segment(), 0..3),
        blocked in ranges(),
        ready in ranges(),
        cancelled in ranges(),
        skipped in ranges(),
        open_needs in any::<u32>(),
        counts in task_counts(),
        started_at in option::of(time()),
        ended_at in option::of(time()),
    ) -> Step {
        Step { count, segments, blocked, ready, cancelled, skipped, open_needs, counts, started_at, ended_at }
    }
}

/// Where a task stands.
pub fn task_state() -> impl Strategy<Value = TaskState> {
    prop_oneof![
        Just(TaskState::Blocked),
        Just(TaskState::Ready),
        time().prop_map(TaskState::Waiting),
        Just(TaskState::Active),
        one_of!(TaskOutcome { Succeeded, Failed, Cancelled, Skipped }).prop_map(TaskState::Done),
    ]
}

prop_compose! {
    /// A member of an attempt.
    pub fn member()(
        seat in seat(),
        (phase, end) in phase_and_end().boxed(),
        times in phase_times(),
        stuck in stuck(),
        replacement in any::<u32>(),
        leaving in option::of(one_of!(Leaving { Drained, DeviceGone })),
    ) -> Member {
        let Seat { node, incarnation, gpus, gpu_alternative } = seat;
        Member { node, incarnation, gpus, gpu_alternative, phase, times, end, stuck, replacement, leaving }
    }
}

prop_compose! {
    fn repair()(until in time(), open in btree_map(any::<u32>().prop_map(Rank), held(), 1..3)) -> Repair {
        Repair { until, open }
    }
}

prop_compose! {
    fn surgery()(
        generation in any::<u32>(),
        repair in option::of(repair()),
        replaced in vec((any::<u32>().prop_map(Rank), member()), 0..2),
        vacant in btree_set(any::<u32>().prop_map(Rank), 0..3),
    ) -> Surgery {
        let replaced = replaced.into_iter().map(|(rank, member)| Replaced { rank, member }).collect();
        Surgery { generation, repair, replaced, vacant }
    }
}

prop_compose! {
    /// An attempt.
    pub fn attempt()(
        number in any::<u32>(),
        placed_at in time(),
        desired in one_of!(AttemptDesired { Run, Stop, Preempt, GiveUp }),
        members in vec(member(), 0..3),
        checkpoint in option::of(checkpoint()),
        accept_by in option::of(time()),
        epoch in any::<u32>(),
        main_port in option::of(1_u16..),
        preempted in option::of(preempted()),
        (saved_at, surgery) in (option::of(time()), option::of(surgery().prop_map(Arc::new))),
    ) -> Attempt {
        let (number, epoch) = (AttemptNumber(number), Epoch(epoch));
        Attempt {
            number, placed_at, desired, members, checkpoint, accept_by, epoch, main_port, preempted, saved_at, surgery,
        }
    }
}

prop_compose! {
    /// A task.
    pub fn task()(
        state in task_state(),
        attempts in vec(attempt().boxed(), 0..3),
        spent in any::<u32>(),
        unblamed in any::<u32>(),
    ) -> Task {
        Task { state, attempts, spent, unblamed }
    }
}

prop_compose! {
    /// What a submission key stands for.
    pub fn submission()(owner in text(), key in text(), job in job_id(), spec_digest in digest()) -> Record {
        Record::Submission(SubmissionKey { owner, key }, Submission { job, spec_digest })
    }
}

/// What holds for all of the cluster.
pub fn policy() -> impl Strategy<Value = Policy> {
    let throttle = (any::<Option<u32>>(), any::<Option<u32>>());
    let throttle = throttle.prop_map(|(per_job, per_node)| Throttle { per_job, per_node });
    let tokens = proptest::collection::btree_map(name(), any::<u64>(), 0..3);
    let policy = (vec(name(), 0..4), throttle, tokens);
    policy.prop_map(|(topology, throttle, tokens)| Policy { topology, throttle, tokens })
}

prop_compose! {
    /// How long a step took.
    pub fn durations()(owner in text(), flow in name(), step in name(), runs in vec(any::<u64>(), 1..9), at in time()) -> Record {
        let mut known = Durations { last_at: at, ..Durations::default() };
        runs.into_iter().for_each(|ms| known.learn(ms >> (ms % 64)));
        Record::Durations(DurationKey { owner, flow, step }, Arc::new(known))
    }
}

prop_compose! {
    /// What work asks for of devices.
    pub fn mix()(looks in vec(vec((gpu_request(), 1u64..), 0..4), 1..5), periods in 1u64..9) -> Mix {
        let mut mix = Mix::default();
        for asked in looks {
            let asked = asked.into_iter().map(|(request, milli)| (request.kind(), milli)).collect();
            mix.look(mix.at.after(periods * MIX_PERIOD_MS), asked);
        }
        mix
    }
}

/// A record of any kind.
pub fn record() -> impl Strategy<Value = Record> {
    let step = (job_id(), any::<u32>(), step());
    prop_oneof![
        meta().prop_map(Record::Meta),
        queue().prop_map(|queue| Record::Queue(queue.into())),
        (node_id(), node()).prop_map(|(id, node)| Record::Node(id, Arc::new(node))),
        submission(),
        (any::<u64>(), archive_page()).prop_map(|(page, it)| Record::ArchivePage(page, it)),
        log_segment().prop_map(Record::Segment),
        (queue_path(), text(), account())
            .prop_map(|(queue, owner, it)| Record::Account(AccountKey { queue, owner }, Arc::new(it))),
        (job_id(), job()).prop_map(|(id, job)| Record::Job(id, Arc::new(job))),
        (job_id(), job_id()).prop_map(|(job, until)| Record::Wait(job, until)),
        step.prop_map(|(job, index, step)| Record::Step(job, StepIndex(index), Arc::new(step))),
        (task_key(), task()).prop_map(|(key, task)| Record::Task(key, Arc::new(task))),
        (any::<u64>(), token()).prop_map(|(id, token)| Record::Token(TokenId(id), Arc::new(token))),
        (identity(), revocation()).prop_map(|(identity, it)| Record::Revocation(identity, it)),
        (name(), kept_secret()).prop_map(|(name, it)| Record::Secret(name, Arc::new(it))),
        (task_key(), claim()).prop_map(|(task, it)| Record::Claim(task, Arc::new(it))),
        policy().prop_map(|policy| Record::Policy(policy.into())),
        durations(),
        mix().prop_map(|mix| Record::Mix(mix.into())),
    ]
}
