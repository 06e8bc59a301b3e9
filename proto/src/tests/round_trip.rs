//! Whatever is encoded is read back as it was.

use flowyard_model::{AttemptReport, Desired, End, Inventory, JobSpec, Queue, StepSpec, TaskCounts, Used};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::{agent, api, generators, request};
use crate::{decode_entry, decode_record, decode_spec, encode_entry, encode_record, encode_spec};

/// Through the wire type and its bytes and back.
fn through<W, M>(model: &M) -> M
where
    W: Message + Default + for<'a> From<&'a M>,
    M: TryFrom<W>,
    M::Error: std::fmt::Debug,
{
    let bytes = W::from(model).encode_to_vec();
    M::try_from(W::decode(bytes.as_slice()).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn every_command_survives_the_log(time in generators::time(), command in generators::command()) {
        let bytes = encode_entry(time, &command).unwrap();
        prop_assert_eq!(decode_entry(&bytes), Ok((time, command)));
    }

    #[test]
    fn every_record_survives_a_snapshot(record in generators::record()) {
        prop_assert_eq!(decode_record(&encode_record(&record)), Ok(record));
    }

    #[test]
    fn a_spec_survives_and_has_one_encoding(spec in generators::job_spec()) {
        let bytes = encode_spec(&spec).unwrap();
        let back = decode_spec(&bytes).unwrap();
        prop_assert_eq!(encode_spec(&back).unwrap(), bytes);
        prop_assert_eq!(back, spec);
    }

    #[test]
    fn what_an_agent_is_told_survives(desired in generators::desired()) {
        prop_assert_eq!(through::<agent::Desired, Desired>(&desired), desired);
    }

    #[test]
    fn what_an_agent_tells_survives(
        register in generators::register_node(),
        reports in vec(generators::attempt_report(), 0..3),
    ) {
        let hello = request::to_hello(&register, &reports);
        prop_assert_eq!(request::hello(hello), Ok((register, reports)));
    }

    #[test]
    fn what_the_api_shows_survives(
        step in generators::step_spec(),
        inventory in generators::inventory(),
        used in generators::used(),
        end in generators::end(),
        report in generators::attempt_report(),
        counts in generators::task_counts(),
        queue in generators::queue(),
    ) {
        prop_assert_eq!(through::<api::StepSpec, StepSpec>(&step), step);
        prop_assert_eq!(through::<api::Inventory, Inventory>(&inventory), inventory);
        prop_assert_eq!(through::<api::Used, Used>(&used), used);
        prop_assert_eq!(through::<api::End, End>(&end), end);
        prop_assert_eq!(through::<api::AttemptReport, AttemptReport>(&report), report);
        prop_assert_eq!(TaskCounts::from(api::TaskCounts::from(counts)), counts);
        prop_assert_eq!(through::<api::Queue, Queue>(&queue), queue);
    }

    #[test]
    fn a_submission_survives(spec in generators::job_spec(), key in "[a-z]{1,9}") {
        let request = api::SubmitRequest { spec: Some((&spec).into()), key: Some(key.clone()) };
        prop_assert_eq!(request::submission(request), Ok((spec, Some(key))));
    }
}

#[test]
fn a_spec_without_steps_still_is_a_spec() {
    let spec = JobSpec {
        name: "empty".parse().unwrap(),
        queue: flowyard_model::QueuePath::fallback(),
        priority: 0,
        tags: [].into(),
        params: [].into(),
        steps: vec![],
        after: vec![],
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    };
    assert_eq!(decode_spec(&encode_spec(&spec).unwrap()), Ok(spec));
}
