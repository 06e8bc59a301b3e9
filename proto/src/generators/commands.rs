//! Commands, reports, and what agents are told.

use std::sync::Arc;

use flowyard_model::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

prop_compose! {
    /// An output.
    pub fn output()(manifest in digest(), list in option::of(item_list())) -> Output {
        Output { manifest, list }
    }
}

pub(super) fn reason() -> impl Strategy<Value = Reason> {
    one_of!(Reason {
        Exit,
        Signal,
        Oom,
        Timeout,
        Disk,
        Image,
        Command,
        Output,
        Input,
        Sandbox,
        Stuck,
        Cancelled,
        Preempted,
        NodeLost,
        LeaseExpired,
        Device,
        Refused,
    })
}

prop_compose! {
    /// The end of a member.
    pub fn end()(
        outcome in one_of!(AttemptOutcome { Succeeded, Failed, Rejected, Stopped, Preempted, Lost }),
        reason in reason(),
        blame in one_of!(Blame { User, Platform, Hardware }),
        exit_code in any::<Option<i32>>(),
        signal in any::<Option<i32>>(),
        message in text(),
        peak_memory_bytes in any::<u64>(),
        cpu_us in any::<u64>(),
        outputs in by_name(output()).boxed(),
        stdout in option::of(digest()),
        stderr in option::of(digest()),
    ) -> End {
        let logs = Logs { stdout, stderr };
        End { outcome, reason, blame, exit_code, signal, message, peak_memory_bytes, cpu_us, outputs, logs }
    }
}

/// A phase, with an end exactly when it is the last.
pub fn phase_and_end() -> impl Strategy<Value = (Phase, Option<Arc<End>>)> {
    prop_oneof![
        phase_before_end().prop_map(|phase| (phase, None)),
        end().prop_map(|end| (Phase::Ended, Some(Arc::new(end)))),
    ]
}

fn phase_before_end() -> impl Strategy<Value = Phase> {
    one_of!(Phase { Placed, Accepted, Fetching, Running, Storing })
}

prop_compose! {
    /// Times of phases.
    pub fn phase_times()(
        accepted in option::of(time()),
        fetching in option::of(time()),
        running in option::of(time()),
        storing in option::of(time()),
        ended in option::of(time()),
    ) -> PhaseTimes {
        PhaseTimes { accepted, fetching, running, storing, ended }
    }
}

/// Where something makes no progress, if it makes none.
pub fn stuck() -> impl Strategy<Value = Option<StuckPhase>> {
    option::of(one_of!(StuckPhase { Accepting, Fetching, Starting, Storing, Stopping }))
}

prop_compose! {
    /// A checkpoint.
    pub fn checkpoint()(manifest in digest(), at in time()) -> Checkpoint {
        Checkpoint { manifest, at }
    }
}

prop_compose! {
    /// A report.
    pub fn attempt_report()(
        member in member_key(),
        (phase, end) in phase_and_end().boxed(),
        times in phase_times(),
        checkpoint in option::of(checkpoint()),
        stuck in stuck(),
        saved_at in option::of(time()),
    ) -> AttemptReport {
        AttemptReport { member, phase, times, end, checkpoint, stuck, saved_at }
    }
}

prop_compose! {
    /// A registration.
    pub fn register_node()(
        name in name(),
        inventory in inventory().boxed(),
        previous in option::of((node_id(), incarnation())),
    ) -> RegisterNode {
        RegisterNode { name, inventory: Arc::new(inventory), previous }
    }
}

prop_compose! {
    /// A submission.
    pub fn submit_job()(
        spec in job_spec().boxed(),
        spec_digest in digest(),
        owner in text(),
        key in option::of(text()),
    ) -> SubmitJob {
        SubmitJob { spec: Arc::new(spec), spec_digest, owner, key }
    }
}

fn gpus() -> impl Strategy<Value = Vec<GpuIndex>> {
    vec(any::<u32>().prop_map(GpuIndex), 0..4)
}

prop_compose! {
    /// Where one member goes.
    pub fn seat()(
        node in node_id(),
        incarnation in incarnation(),
        gpus in gpus(),
        gpu_alternative in any::<u32>(),
    ) -> Seat {
        Seat { node, incarnation, gpus, gpu_alternative }
    }
}

prop_compose! {
    /// A line of a plan.
    pub fn placement()(task in task_key(), attempt in any::<u32>(), members in vec(seat(), 0..3)) -> Placement {
        Placement { task, attempt: AttemptNumber(attempt), members }
    }
}

prop_compose! {
    /// The wish for room that is not free yet.
    pub fn claim_wish()(task in task_key(), claim in claim()) -> ClaimWish {
        let Claim { attempt, members, evictions, awaits, .. } = claim;
        ClaimWish { task, attempt, members, evictions, awaits }
    }
}

prop_compose! {
    /// A plan.
    pub fn plan()(
        based_on in any::<u64>(),
        seed in any::<u64>(),
        budget in any::<u64>(),
        placer_version in any::<u32>(),
        accept_ms in any::<Option<u64>>(),
        placements in vec(placement(), 0..4),
        claims in vec(claim_wish(), 0..3),
        drops in vec(task_key(), 0..3),
        at in option::of(time()),
        (made_from, repairs) in (option::of(made_from()), vec(repair_wish(), 0..3)),
    ) -> Plan {
        Plan {
            based_on: Revision(based_on), seed, budget, placer_version, placements, accept_ms, claims, drops, at, made_from,
            repairs,
        }
    }
}

prop_compose! {
    /// Seats for open ranks.
    pub fn repair_wish()(
        task in task_key(),
        attempt in any::<u32>(),
        seats in vec((any::<u32>().prop_map(Rank), seat()), 0..3),
    ) -> RepairWish {
        RepairWish { task, attempt: AttemptNumber(attempt), seats }
    }
}

prop_compose! {
    /// What a plan was made from.
    pub fn made_from()(
        number in any::<u64>(),
        part in any::<u32>(),
        tasks in any::<u64>(),
        under_way in vec(any::<u64>(), 0..4),
    ) -> MadeFrom {
        MadeFrom { number, part, tasks, under_way }
    }
}

prop_compose! {
    /// What an agent observed.
    pub fn report_attempts()(
        node in node_id(),
        incarnation in incarnation(),
        reports in vec(attempt_report().boxed(), 0..4),
    ) -> ReportAttempts {
        ReportAttempts { node, incarnation, reports }
    }
}

/// What an operator wants of a node.
pub fn node_change() -> impl Strategy<Value = NodeChange> {
    let drain = option::of(time()).prop_map(|deadline| NodeChange::Drain { deadline });
    prop_oneof![
        Just(NodeChange::Cordon),
        drain,
        Just(NodeChange::Uncordon),
        Just(NodeChange::Remove),
        Just(NodeChange::Forgive)
    ]
}

prop_compose! {
    /// A change of a node.
    pub fn change_node()(node in node_id(), change in node_change(), by in text(), reason in text()) -> ChangeNode {
        ChangeNode { node, change, by, reason }
    }
}

/// A command of any kind.
pub fn command() -> impl Strategy<Value = Command> {
    let health = (node_id(), incarnation(), health());
    prop_oneof![
        submit_job().prop_map(Command::SubmitJob),
        job_id().prop_map(|job| Command::CancelJob { job }),
        queue().prop_map(|queue| Command::PutQueue(queue.into())),
        queue_path().prop_map(|path| Command::DropQueue { path }),
        register_node().prop_map(Command::RegisterNode),
        health.prop_map(|(node, incarnation, health)| Command::SetNodeHealth { node, incarnation, health }),
        (node_id(), scheduling()).prop_map(|(node, scheduling)| Command::SetNodeScheduling { node, scheduling }),
        plan().prop_map(Command::CommitPlan),
        report_attempts().prop_map(Command::ReportAttempts),
        vec(report_attempts(), 0..4).prop_map(Command::ReportMany),
        Just(Command::Tick),
        any::<u32>().prop_map(|version| Command::RaiseVersion { version: ClusterVersion(version) }),
        any::<u32>().prop_map(|epoch| Command::BeginEpoch { epoch: Epoch(epoch) }),
        archive_jobs().prop_map(Command::ArchiveJobs),
        seal_segments().prop_map(Command::SealSegments),
        vec(job_id(), 0..4).prop_map(|jobs| Command::ForgetJobs { jobs }),
        create_token().prop_map(Command::CreateToken),
        any::<u64>().prop_map(|token| Command::RevokeToken { token: TokenId(token) }),
        (any::<u64>(), fingerprint(), admitted()).prop_map(|(token, by, who)| Command::UseToken {
            token: TokenId(token),
            by,
            who
        }),
        (identity(), option::of(time()), text()).prop_map(|(identity, until, by)| Command::RevokeIdentity {
            identity,
            until,
            by,
        }),
        change_node().prop_map(Command::ChangeNode),
        put_secret().prop_map(Command::PutSecret),
        name().prop_map(|name| Command::DropSecret { name }),
        policy().prop_map(|policy| Command::PutPolicy(policy.into())),
        set_devices().prop_map(Command::SetDevices),
        change_device().prop_map(Command::ChangeDevice),
    ]
}

prop_compose! {
    fn device_report()(device in text(), state in device_state(), reason in text()) -> DeviceReport {
        DeviceReport { device, state, reason }
    }
}

prop_compose! {
    /// What an agent saw of its devices.
    pub fn set_devices()(
        node in node_id(),
        incarnation in incarnation(),
        devices in vec(device_report(), 0..3),
    ) -> SetDevices {
        SetDevices { node, incarnation, devices }
    }
}

prop_compose! {
    /// What an operator wants of a device.
    pub fn change_device()(
        node in node_id(),
        device in text(),
        out in any::<bool>(),
        by in text(),
        reason in text(),
    ) -> ChangeDevice {
        ChangeDevice { node, device, out, by, reason }
    }
}

prop_compose! {
    /// What all tasks of a step have in common.
    pub fn step_context()(
        job in job_id(),
        step in any::<u32>(),
        job_name in name(),
        spec in step_spec().boxed(),
        params in by_name(text()),
        owner in text(),
        lists in btree_set(name(), 0..3),
    ) -> StepContext {
        StepContext { job, step: StepIndex(step), job_name, spec, params, owner, lists }
    }
}

/// An input as digests.
pub fn resolved_input() -> impl Strategy<Value = ResolvedInput> {
    let entries = proptest::collection::btree_map(0u32..100, digest(), 0..4);
    let join = (100u32.., entries).prop_map(|(count, entries)| ResolvedInput::Join {
        count,
        entries: entries.into_iter().map(|(task, manifest)| (TaskIndex(task), manifest)).collect(),
    });
    prop_oneof![digest().prop_map(ResolvedInput::Artifact), join]
}

/// The item of a task.
pub fn item() -> impl Strategy<Value = Item> {
    let listed = (digest(), any::<u32>()).prop_map(|(items, position)| Item::Listed { items, position });
    prop_oneof![any::<i64>().prop_map(Item::Number), listed]
}

prop_compose! {
    /// A member an agent should run.
    pub fn desired_member()(
        key in member_key(),
        gpus in gpus(),
        inputs in by_name(resolved_input()).boxed(),
        item in option::of(item()),
        known in phase_before_end(),
        gang in option::of(gang()),
        gpu_alternative in any::<u32>(),
    ) -> DesiredMember {
        DesiredMember { key, gpus, gpu_alternative, inputs, item, known, gang }
    }
}

prop_compose! {
    fn stop_terms()(notice_ms in option::of(any::<u64>()), kill_within_ms in option::of(any::<u64>())) -> StopTerms {
        StopTerms { notice_ms, kill_within_ms }
    }
}

prop_compose! {
    fn gang()(
        nodes in vec((name(), text(), 1_u32..).prop_map(|(name, address, members)| GangNode { name, address, members }), 1..4),
        main_port in 1_u16..,
        generation in any::<u32>(),
        vacant in btree_set(any::<u32>().prop_map(Rank), 0..3),
    ) -> Gang {
        Gang { nodes, main_port, generation, vacant }
    }
}

prop_compose! {
    /// What one agent should run.
    pub fn desired()(
        term in any::<u64>(),
        revision in any::<u64>(),
        sequence in 1u64..,
        all in any::<bool>(),
        steps in vec(step_context().boxed().prop_map(Arc::new), 0..3),
        run in vec(desired_member().boxed(), 0..3),
        stop in vec(member_key(), 0..3),
        gone in vec(member_key(), 0..3),
        stop_terms in btree_map(member_key(), stop_terms(), 0..3),
    ) -> Desired {
        let fence = Fence { term: Term(term), revision: Revision(revision) };
        Desired { fence, sequence, all, steps, run, stop, gone, stop_terms }
    }
}
