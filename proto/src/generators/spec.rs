//! Specs, resources and inventories.

use flowyard_model::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

/// An image.
pub fn image() -> impl Strategy<Value = Image> {
    let stored = (digest(), text()).prop_map(|(manifest, source)| Image::Stored { manifest, source });
    prop_oneof![Just(Image::Host), stored]
}

/// An input.
pub fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        digest().prop_map(|manifest| Input::Stored { manifest }),
        (any::<u32>(), name()).prop_map(|(step, output)| Input::Output { step: StepIndex(step), output }),
    ]
}

/// A list of items.
pub fn item_list() -> impl Strategy<Value = ItemList> {
    (digest(), any::<u32>()).prop_map(|(items, count)| ItemList { items, count })
}

/// A fan-out.
pub fn fan_out() -> impl Strategy<Value = FanOut> {
    prop_oneof![
        Just(FanOut::Single),
        (any::<i64>(), any::<u32>()).prop_map(|(start, count)| FanOut::Range { start, count }),
        item_list().prop_map(FanOut::Items),
        (any::<u32>(), name()).prop_map(|(step, output)| FanOut::Output { step: StepIndex(step), output }),
        any::<u32>().prop_map(|step| FanOut::Each { step: StepIndex(step) }),
    ]
}

prop_compose! {
    /// A request for GPUs.
    pub fn gpu_request()(
        count in 1u32..,
        model in option::of(text()),
        min_memory_bytes in any::<u64>(),
        same_link_group in any::<bool>(),
        share_milli in 1u32..,
        memory_bytes in any::<u64>(),
        link in option::of(one_of!(GpuLink { Nvlink, Pcie, Numa })),
    ) -> GpuRequest {
        GpuRequest { count, model, min_memory_bytes, same_link_group, share_milli, memory_bytes, link }
    }
}

prop_compose! {
    /// A request.
    pub fn resources()(
        cpu_milli in 1u64..,
        memory_bytes in 1u64..,
        disk_bytes in any::<u64>(),
        shm_bytes in any::<u64>(),
        tokens in by_name(any::<u32>()),
        gpus in vec(gpu_request(), 0..3),
    ) -> Resources {
        Resources { cpu_milli, memory_bytes, disk_bytes, shm_bytes, tokens, gpus }
    }
}

prop_compose! {
    /// How waits grow.
    pub fn growth()(factor in any::<u32>(), max_ms in any::<Option<u64>>(), jitter in any::<bool>()) -> Growth {
        Growth { factor, max_ms, jitter }
    }
}

prop_compose! {
    /// An exception of a retry rule.
    pub fn retry_rule()(
        reasons in btree_set(one_of!(Reason { Exit, Signal, Oom, Timeout }), 0..3),
        exit_codes in btree_set(any::<i32>(), 0..3),
        times in any::<Option<u32>>(),
        backoff in option::of((any::<u64>(), growth()).prop_map(|(first_ms, growth)| Backoff { first_ms, growth })),
    ) -> RetryRule {
        RetryRule { reasons, exit_codes, times, backoff }
    }
}

prop_compose! {
    /// A retry rule.
    pub fn retry()(
        times in any::<u32>(),
        backoff_ms in any::<u64>(),
        on in btree_set(one_of!(RetryOn { Failed, Oom, Timeout }), 0..4),
        growth in prop_oneof![Just(Growth::DOUBLING), growth()],
        rules in vec(retry_rule(), 0..3),
    ) -> Retry {
        Retry { times, backoff_ms, growth, on, rules }
    }
}

prop_compose! {
    /// A constraint.
    pub fn constraint()(
        label in name(),
        operator in one_of!(ConstraintOperator { In, NotIn, Exists, Absent }),
        values in vec(text(), 0..3),
    ) -> Constraint {
        Constraint { label, operator, values }
    }
}

prop_compose! {
    /// A mount.
    pub fn host_mount()(path in "/[a-z/]{0,8}", read_only in any::<bool>()) -> HostMount {
        HostMount { path, read_only }
    }
}

prop_compose! {
    /// A secret that is used.
    pub fn secret_use()(
        place in prop_oneof![text().prop_map(SecretPlace::Variable), text().prop_map(SecretPlace::File)],
        secret in name(),
    ) -> SecretUse {
        SecretUse { place, secret }
    }
}

/// Needs.
fn needs() -> impl Strategy<Value = std::collections::BTreeMap<StepIndex, NeedKind>> {
    btree_map(any::<u32>().prop_map(StepIndex), one_of!(NeedKind { All, Each }), 0..3)
}

fn stop_signal() -> impl Strategy<Value = StopSignal> {
    one_of!(StopSignal { Term, Int, Hup, Quit, Usr1, Usr2 })
}

prop_compose! {
    /// What an attempt is sent before it is asked to stop.
    pub fn notice()(signal in stop_signal(), ms in 1u64..) -> Notice {
        Notice { signal, ms }
    }
}

/// Where the members of a step go in relation to each other.
fn placing() -> impl Strategy<Value = Placing> {
    let near = (name(), any::<bool>()).prop_map(|(level, need)| Near { level, need });
    let preference = (constraint(), 1u32..).prop_map(|(constraint, weight)| Preference { constraint, weight });
    let replace = option::of(any::<u64>().prop_map(|within_ms| Replace { within_ms }));
    let spread = (name(), any::<Option<u32>>()).prop_map(|(over, at_most)| Spread { over, at_most });
    let apart = btree_set(text(), 0..3);
    let beside = (option::of(spread), any::<bool>(), apart, any::<bool>());
    let sizes = (option::of(any::<u32>()), replace);
    let whole = (option::of(near), vec(preference, 0..3), sizes, beside);
    whole.prop_map(|(near, prefer, (min_size, replace), (spread, unique_host, apart, pack))| Placing {
        near,
        prefer,
        min_size,
        replace,
        spread,
        unique_host,
        apart,
        pack,
    })
}

prop_compose! {
    /// A step of a spec.
    pub fn step_spec()(
        name in name(),
        command in vec(text(), 0..4),
        image in image().boxed(),
        isolation in one_of!(Isolation { Container, Process }),
        code in option::of(digest()),
        inputs in by_name(input()).boxed(),
        outputs in by_name(text()).boxed(),
        fan_out in fan_out().boxed(),
        needs in needs().boxed(),
        env in btree_map(text(), text(), 0..3),
        resources in resources().boxed(),
        size in 1u32..,
        retry in retry().boxed(),
        (timeout_ms, expected_ms) in any::<(Option<u64>, Option<u64>)>(),
        on_failure in one_of!(OnFailure { Stop, Continue }),
        max_parallel in any::<Option<u32>>(),
        constraints in vec(constraint(), 0..3),
        network in one_of!(NetworkMode { Host, Private, None, Usual }),
        mounts in vec(host_mount(), 0..3),
        (kill_grace_ms, stop_signal) in (any::<u64>(), stop_signal()),
        on_disconnect in one_of!(OnDisconnect { Keep, Stop }),
        (priority, secrets) in (any::<i32>(), vec(secret_use(), 0..3)),
        (preemptible, notice, placing) in (any::<bool>(), option::of(notice()), placing()),
    ) -> StepSpec {
        StepSpec {
            name, command, image, isolation, code, inputs, outputs, fan_out, needs, env, resources, size, retry,
            timeout_ms, expected_ms, on_failure, max_parallel, constraints, network, mounts, kill_grace_ms, stop_signal, on_disconnect,
            priority, secrets, preemptible, notice, placing,
        }
    }
}

prop_compose! {
    /// A job's spec.
    pub fn job_spec()(
        name in name(),
        queue in queue_path(),
        priority in any::<i32>(),
        tags in btree_set(text(), 0..4),
        params in by_name(text()).boxed(),
        steps in vec(step_spec().boxed(), 0..3),
        after in vec(job_id(), 0..3),
        retention_ms in any::<Option<u64>>(),
        (deadline_ms, queue_ttl_ms) in any::<(Option<u64>, Option<u64>)>(),
    ) -> JobSpec {
        JobSpec { name, queue, priority, tags, params, steps, after, retention_ms, deadline_ms, queue_ttl_ms }
    }
}

prop_compose! {
    /// A device.
    pub fn gpu()(
        id in "[a-z0-9-]{1,12}",
        model in text(),
        memory_bytes in any::<u64>(),
        numa_node in any::<Option<u32>>(),
        link_group in any::<Option<u32>>(),
        healthy in any::<bool>(),
        fake in any::<bool>(),
        part in option::of(("[a-z0-9-]{1,12}", any::<u32>(), any::<u32>())),
        pcie_group in any::<Option<u32>>(),
    ) -> Gpu {
        let part = part.map(|(of, instance, compute)| GpuPart { of, instance, compute });
        Gpu { id, model, memory_bytes, numa_node, link_group, healthy, fake, part, pcie_group }
    }
}

prop_compose! {
    /// What an agent can do.
    pub fn abilities()(
        containers in any::<bool>(),
        process_isolation in any::<bool>(),
        host_image in any::<bool>(),
        private_networks in any::<bool>(),
        separation in text(),
        enforcement in text(),
        agent_version in text(),
        system in text(),
    ) -> Abilities {
        Abilities { containers, process_isolation, host_image, private_networks, separation, enforcement, agent_version, system }
    }
}

prop_compose! {
    /// An inventory.
    pub fn inventory()(
        cpu_milli in any::<u64>(),
        memory_bytes in any::<u64>(),
        disk_bytes in any::<u64>(),
        gpus in vec(gpu(), 0..3),
        tokens in by_name(any::<u32>()),
        labels in by_name(text()),
        abilities in abilities(),
        rendezvous in option::of(rendezvous()),
    ) -> Inventory {
        Inventory { cpu_milli, memory_bytes, disk_bytes, gpus, tokens, labels, abilities, rendezvous }
    }
}

prop_compose! {
    fn rendezvous()(address in text(), first in 1_u16.., more in any::<u16>()) -> Rendezvous {
        Rendezvous { address, ports: PortRange { first, last: first.saturating_add(more) } }
    }
}
