//! Records are shown as they are.

use flowyard_model::{Incarnation, JobOutcome, Node, NodeId, StepIndex, TaskIndex};
use proptest::prelude::*;

use crate::{generators, view};

#[test]
fn every_phase_of_a_job_is_read_back() {
    for ended in [None, Some(JobOutcome::Succeeded), Some(JobOutcome::Failed), Some(JobOutcome::Cancelled)] {
        assert_eq!(view::job_outcome(view::job_phase(ended).into()), Ok(ended));
    }
    assert_eq!(view::job_outcome(0).unwrap_err().to_string(), "state: missing");
    assert_eq!(view::job_outcome(77).unwrap_err().to_string(), "state: 77 is not a value this build knows");
}

proptest! {
    #[test]
    fn a_task_shows_its_state_and_all_its_attempts(task in generators::task()) {
        let shown = view::task(StepIndex(1), TaskIndex(2), &task, |_| None);
        prop_assert_eq!((shown.step, shown.task), (1, 2));
        prop_assert_eq!(view::state_of(&shown), Ok(task.state));
        prop_assert_eq!(shown.attempts.len(), task.attempts.len());
    }

    #[test]
    fn devices_are_shown_only_from_the_inventory_they_were_placed_by(
        node in generators::node(), member in generators::member(),
    ) {
        let mut member = member;
        member.gpus = (0..node.inventory.gpus.len() as u32 + 1).map(flowyard_model::GpuIndex).collect();
        member.incarnation = node.incarnation;
        let shown = view::member(&member, Some(&node));
        prop_assert_eq!(shown.gpus.len(), node.inventory.gpus.len());
        prop_assert_eq!(&shown.node_name, node.name.as_str());
        let later = Node { incarnation: Incarnation(node.incarnation.0.wrapping_add(1)), ..node };
        prop_assert!(view::member(&member, Some(&later)).gpus.is_empty());
        prop_assert!(view::member(&member, None).node_name.is_empty());
    }

    #[test]
    fn a_job_and_its_steps_show_their_times(job in generators::job(), step in generators::step()) {
        let row = view::job_row(flowyard_model::JobId(7), &job, step.counts, step.started_at);
        prop_assert_eq!(view::job_outcome(row.state), Ok(job.ended.map(|end| end.outcome)));
        prop_assert_eq!(row.ended_ms, job.ended.map(|end| end.at.0));
        prop_assert_eq!(row.tags.len(), job.spec.tags.len());
        for spec in &job.spec.steps {
            let shown = view::step(spec, &step);
            prop_assert_eq!((shown.started_ms, shown.count), (step.started_at.map(|time| time.0), step.count));
        }
    }

    #[test]
    fn a_node_shows_what_it_offers(node in generators::node(), connected in any::<bool>()) {
        let shown = view::node(NodeId(4), &node, connected);
        prop_assert_eq!((shown.node, shown.connected), (4, connected));
        prop_assert_eq!(shown.inventory.unwrap().try_into(), Ok(node.inventory.as_ref().clone()));
        prop_assert_eq!(shown.used.unwrap().try_into(), Ok(node.used));
    }
}
