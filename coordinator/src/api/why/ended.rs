//! How an attempt ended, in words, and what to do about it.

use flowyard_model::{Blame, End, OnFailure, Reason, StepSpec, Task};
use flowyard_proto::api::Finding;

use super::Scene;
use super::task::retries;
use super::words::{Told, count, duration, finding as found, size};

/// The end of the last attempt.
pub(super) fn last(task: &Task) -> Option<&End> {
    task.attempts.last()?.decisive().map(|(.., end)| end)
}

/// An end in one sentence.
pub(super) fn sentence(end: &End) -> String {
    match end.message.is_empty() {
        true => format!("reason {}", reason(end.reason)),
        false => format!("{} (reason {})", end.message, reason(end.reason)),
    }
}

/// A task that failed for good.
pub(super) fn finding(scene: Scene<'_>, task: &Task, spec: &StepSpec, end: &End, subject: String) -> Finding {
    let blame = match end.blame {
        Blame::User => "user",
        Blame::Platform => "platform",
        Blame::Hardware => "hardware",
    };
    let phase = task.attempts.last().and_then(|attempt| attempt.members.iter().find_map(|member| member.stuck));
    let phase = phase.map_or_else(String::new, |phase| format!(" {}", phase.as_str()));
    let mut details = vec![format!("reason {}{phase}, blame {blame}", reason(end.reason))];
    match (end.reason, end.exit_code, end.signal) {
        // The message says it already.
        (Reason::Exit | Reason::Signal, ..) | (_, None, None) => {}
        (_, Some(code), _) => details.push(format!("exit code {code}")),
        (_, None, Some(signal)) => details.push(format!("ended by signal {signal}")),
    }
    let attempt = task.attempts.last();
    let decisive = attempt.and_then(|attempt| Some((attempt.members.len(), attempt.decisive()?)));
    if let Some((size, (rank, member, _))) = decisive
        && let Some(node) = scene.view.node(member.node)
    {
        let of_gang = if size > 1 { format!(", rank {rank} of {size}") } else { String::new() };
        details.push(format!("on node {}{of_gang}", node.name));
    }
    let used =
        format!("used at most {} of {} of memory", size(end.peak_memory_bytes), size(spec.resources.memory_bytes));
    if end.peak_memory_bytes > 0 {
        details.push(used);
    }
    details.push(format!("{}; {}", count(task.attempts.len() as u64, "attempt"), retries(task, spec)));
    if spec.on_failure == OnFailure::Continue {
        details.push("its siblings go on (on_failure = \"continue\")".to_owned());
    }
    let why = if end.message.is_empty() {
        format!("it ended with reason {}", reason(end.reason))
    } else {
        end.message.clone()
    };
    found(subject.clone(), "failed", why).with_details(details).with_advice(advice(spec, end, &subject))
}

/// A reason as the API spells it.
pub(super) fn reason(reason: Reason) -> String {
    let wire = flowyard_proto::api::Reason::from(reason);
    wire.as_str_name().trim_start_matches("REASON_").to_ascii_lowercase()
}

/// What a user, or an operator, can do.
fn advice(spec: &StepSpec, end: &End, subject: &str) -> Vec<String> {
    let wants = &spec.resources;
    let stderr = format!("fctl logs {subject} --stderr");
    let step = &spec.name;
    let change = match end.reason {
        Reason::Exit | Reason::Signal => None,
        Reason::Oom => Some(format!("give step {step} more memory: `memory` is {} now", size(wants.memory_bytes))),
        Reason::Timeout => {
            spec.timeout_ms.map(|limit| format!("give step {step} more time: `timeout` is {} now", duration(limit)))
        }
        Reason::Disk if wants.disk_bytes > 0 => Some(format!(
            "give step {step} more disk: `disk` is {} now; or free space on the node",
            size(wants.disk_bytes)
        )),
        Reason::Disk => Some("free space on the node; `fctl storage` says what is kept".to_owned()),
        Reason::Image => Some(format!("check `image` of step {step}")),
        Reason::Command => Some(format!("check the first word of `run` in step {step}, and PATH in its `env`")),
        Reason::Output => Some(format!("write every output that step {step} declares before the command ends")),
        Reason::Input => Some(format!("check `inputs` and `code` of step {step}")),
        Reason::Refused => {
            Some("the node's agent does not allow it; change the step, or the agent's configuration".to_owned())
        }
        Reason::Sandbox | Reason::Stuck | Reason::NodeLost | Reason::LeaseExpired | Reason::Device => {
            Some("fctl nodes".to_owned())
        }
        Reason::Cancelled | Reason::Preempted => None,
    };
    let has_log = end.logs.stderr.is_some();
    change.into_iter().chain(has_log.then_some(stderr)).chain([format!("fctl show {subject}")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_spelt_as_in_the_api() {
        assert_eq!(reason(Reason::NodeLost), "node_lost");
        assert_eq!(reason(Reason::Oom), "oom");
    }
}
