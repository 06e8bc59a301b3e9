//! Which shapes the work has that has not ended, counted: placement costs by shape, so a cluster has a bound of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{ClusterVersion, Constraint, JobSpec, Placing, Rejection, Resources, Shape, StepSpec, limits};
use imbl::OrdMap;

use crate::state::State;

/// A [`Shape`] that belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwnShape {
    resources: Resources,
    size: u32,
    constraints: Vec<Constraint>,
    process: bool,
    host_image: bool,
    private_network: bool,
    preemptible: bool,
    placing: Placing,
}

impl OwnShape {
    pub(crate) fn of(step: &StepSpec) -> Arc<Self> {
        let Shape { resources, size, constraints, process, host_image, private_network, preemptible, placing } =
            step.shape();
        let (resources, constraints, placing) = (resources.clone(), constraints.to_vec(), placing.clone());
        Arc::new(Self { resources, size, constraints, process, host_image, private_network, preemptible, placing })
    }
}

/// Refuses a job that brings more new shapes than there may be: of all, and of one person, who leaves some for others. What is there already
/// is taken, however many there are.
pub(crate) fn check(state: &State, owner: &str, spec: &JobSpec) -> Result<(), Rejection> {
    let known = &state.indexes.shapes;
    let free_for_all = limits::SHAPES - limits::SHAPES_OF_ONE;
    if state.version() < ClusterVersion::ACCESS || known.len() + spec.steps.len() <= free_for_all {
        return Ok(());
    }
    let asked: BTreeSet<_> = spec.steps.iter().map(OwnShape::of).collect();
    let fresh = asked.iter().filter(|shape| !known.contains_key(*shape)).count();
    let own = state.indexes.shapes_of.get(owner);
    let own_then = asked.iter().filter(|shape| own.is_none_or(|own| !own.contains_key(*shape))).count();
    let own_then = own_then + own.map_or(0, OrdMap::len);
    let then = known.len() + fresh;
    let leaves_enough = then <= free_for_all || own_then <= limits::SHAPES_OF_ONE;
    if fresh == 0 || (then <= limits::SHAPES && leaves_enough) {
        return Ok(());
    }
    let whose = if leaves_enough {
        format!("and there may be {}", limits::SHAPES)
    } else {
        format!("{} of them yours: the last {} are for others", own_then - fresh, limits::SHAPES_OF_ONE)
    };
    let message = format!(
        "the work of this cluster that has not ended asks for {} different kinds of room already, {whose}; tasks are of one kind if they \
         ask for the same resources, devices, labels and isolation: round the amounts up to a few sizes, or wait until other work has \
         ended",
        known.len(),
    );
    Err(Rejection::Invalid { path: "steps".to_owned(), message })
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Command, Digest, Entry, JobId, Reply, Revision, SubmitJob, TimeMs};

    use super::*;
    use crate::{apply, check_all};

    /// Submits jobs of so many steps, each of another shape from `first` on.
    struct Cluster(State);

    impl Cluster {
        fn say(&mut self, command: Command) -> Reply {
            let index = Revision(self.0.revision().0 + 1);
            apply(&mut self.0, Entry { index, time: TimeMs(1), command }).reply
        }

        fn submit(&mut self, first: u64, steps: u64) -> Reply {
            self.submit_as("me", first, steps)
        }

        fn submit_as(&mut self, owner: &str, first: u64, steps: u64) -> Reply {
            let mut spec = crate::fixture::job(0, 0);
            let step = spec.steps.remove(0);
            spec.steps.extend((first..first + steps).map(|shape| {
                let mut step = StepSpec { name: format!("s{shape}").parse().unwrap(), ..step.clone() };
                step.resources.memory_bytes = shape;
                step
            }));
            let spec_digest = Digest { hash: [0; 32], length: 0 };
            self.say(Command::SubmitJob(SubmitJob {
                spec: Arc::new(spec),
                spec_digest,
                owner: owner.to_owned(),
                key: None,
            }))
        }
    }

    #[test]
    fn a_job_that_brings_a_shape_too_many_is_refused_until_other_work_has_ended() {
        let mut cluster = Cluster(State::new());
        let all = limits::SHAPES as u64;
        for part in 0..all / 1_000 {
            let owner = format!("u{part}");
            assert!(matches!(cluster.submit_as(&owner, part * 1_000, 1_000), Reply::Submitted { .. }));
        }
        let early = Reply::Submitted { job: JobId(11), existing: false };
        assert_eq!(cluster.submit(all, 1), early, "older replicas do not count");
        cluster.say(Command::CancelJob { job: JobId(11) });
        cluster.say(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        assert!(matches!(cluster.submit(all - 5, 5), Reply::Submitted { .. }), "what is there already is taken");
        let Reply::Rejected(Rejection::Invalid { path, message }) = cluster.submit(all - 5, 6) else {
            panic!("it was taken")
        };
        assert!(path == "steps" && message.contains("10000 different kinds of room"), "{path}: {message}");
        check_all(&cluster.0).unwrap();
        cluster.say(Command::CancelJob { job: JobId(1) });
        assert!(matches!(cluster.submit(all - 5, 6), Reply::Submitted { .. }), "others have ended");
        check_all(&cluster.0).unwrap();
    }

    #[test]
    fn one_person_leaves_kinds_for_others() {
        let mut cluster = Cluster(State::new());
        cluster.say(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        let most = (limits::SHAPES - limits::SHAPES_OF_ONE) as u64;
        for first in (0..most).step_by(500) {
            assert!(matches!(cluster.submit(first, 500), Reply::Submitted { .. }), "alone, one may have most of them");
        }
        let Reply::Rejected(Rejection::Invalid { message, .. }) = cluster.submit(most, 1) else {
            panic!("it was taken")
        };
        let said = "asks for 7500 different kinds of room already, 7500 of them yours: the last 2500 are for others";
        assert!(message.contains(said), "{message}");
        assert!(matches!(cluster.submit(0, 500), Reply::Submitted { .. }), "of what is there more is taken");
        let submitted = |reply| matches!(reply, Reply::Submitted { .. });
        for (owner, first, steps) in [("ada", most, 1_000), ("bob", most + 1_000, 1_000), ("bob", most + 2_000, 500)] {
            assert!(submitted(cluster.submit_as(owner, first, steps)), "{owner} has few");
        }
        assert!(!submitted(cluster.submit_as("eve", most + 2_500, 1)), "there may be no more in all");
        check_all(&cluster.0).unwrap();
        cluster.say(Command::CancelJob { job: JobId(2) });
        assert!(!submitted(cluster.submit(most + 2_500, 400)), "who has most of them has no more");
        assert!(submitted(cluster.submit_as("eve", most + 2_500, 400)));
        check_all(&cluster.0).unwrap();
    }
}
