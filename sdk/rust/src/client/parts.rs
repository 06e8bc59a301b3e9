//! Jobs in parts that one call can carry each.

use flowyard_model::{JobSpec, limits};
use flowyard_proto::api;
use prost::Message;

/// Bytes of the jobs of one call. A coordinator takes twice as much; a single job that is larger goes alone and is judged there.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// Splits jobs, in their order, into what [`Client::submit_batch`](super::Client::submit_batch) can send at a time.
pub fn parts(jobs: Vec<(JobSpec, Option<String>)>) -> Vec<Vec<(JobSpec, Option<String>)>> {
    let (mut parts, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for (spec, key) in jobs {
        let size = api::JobSpec::from(&spec).encoded_len() + key.as_ref().map_or(0, String::len);
        match parts.last_mut() {
            Some(part) if part.len() < limits::JOBS_PER_BATCH && bytes + size <= PART_BYTES => {
                part.push((spec, key));
                bytes += size;
            }
            _ => {
                parts.push(vec![(spec, key)]);
                bytes = size;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn job(bytes: usize) -> (JobSpec, Option<String>) {
        let spec = JobSpec {
            name: "j".parse().unwrap(),
            queue: "default".parse().unwrap(),
            priority: 0,
            tags: BTreeSet::new(),
            params: BTreeMap::from([("p".parse().unwrap(), "x".repeat(bytes))]),
            steps: vec![],
            after: vec![],
            retention_ms: None,
            deadline_ms: None,
            queue_ttl_ms: None,
        };
        (spec, None)
    }

    fn sizes(jobs: Vec<(JobSpec, Option<String>)>) -> Vec<usize> {
        parts(jobs).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_part_is_small_enough_for_one_call_and_no_job_is_left_out() {
        assert_eq!(sizes(vec![]), [0; 0]);
        assert_eq!(sizes(vec![job(1); 2_001]), [1_000, 1_000, 1]);
        assert_eq!(sizes(vec![job(1_000_000); 9]), [4, 4, 1]);
        assert_eq!(sizes(vec![job(10), job(9_000_000), job(10)]), [1, 1, 1], "what is too large stands alone");
    }
}
