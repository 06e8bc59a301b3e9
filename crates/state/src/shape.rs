//! Which shapes the work has that has not ended, counted: placement costs by shape, so a cluster has a bound of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{ClusterVersion, Constraint, JobSpec, Placing, Rejection, Resources, Shape, StepSpec, limits};

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

/// Refuses a job that brings more new shapes than there may be. What is there already is taken, however many there are.
pub(crate) fn check(state: &State, spec: &JobSpec) -> Result<(), Rejection> {
    let known = &state.indexes.shapes;
    if state.version() < ClusterVersion::ACCESS || known.len() + spec.steps.len() <= limits::SHAPES {
        return Ok(());
    }
    let fresh: BTreeSet<_> = spec.steps.iter().map(OwnShape::of).filter(|shape| !known.contains_key(shape)).collect();
    if fresh.is_empty() || known.len() + fresh.len() <= limits::SHAPES {
        return Ok(());
    }
    let message = format!(
        "the work of this cluster that has not ended asks for {} different kinds of room already, and there may be {}: tasks are of \
         one kind if they ask for the same resources, devices, labels and isolation; round the amounts up to a few sizes, or wait \
         until other work has ended",
        known.len(),
        limits::SHAPES
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
                owner: "me".to_owned(),
                key: None,
            }))
        }
    }

    #[test]
    fn a_job_that_brings_a_shape_too_many_is_refused_until_other_work_has_ended() {
        let mut cluster = Cluster(State::new());
        let all = limits::SHAPES as u64;
        for part in 0..all / 1_000 {
            assert!(matches!(cluster.submit(part * 1_000, 1_000), Reply::Submitted { .. }));
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
}
