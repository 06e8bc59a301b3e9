//! What an agent is told: the secrets of one task that it holds, and no others.

use std::collections::BTreeMap;

use flowyard_model::{Member, MemberKey, Phase, limits};
use flowyard_proto::agent::{SecretsRequest, SecretsResponse};
use tonic::Status;

use crate::access::{Action, Caller, allow};
use crate::coordinator::Shared;

/// The secrets that the step of this member is given.
///
/// # Errors
/// When the caller does not hold it, or one of them is not kept, not for its queue, or cannot be opened.
pub(crate) async fn tell(shared: &Shared, caller: &Caller, request: SecretsRequest) -> Result<SecretsResponse, Status> {
    let missing = || Status::invalid_argument("member: missing");
    let key = MemberKey::from(request.member.ok_or_else(missing)?);
    let view = shared.fresh_view().await?;
    let gone = || Status::not_found("the task is not placed there (any more)");
    let (job, attempt) = (view.job(key.task.job), view.attempt(key.task, key.attempt));
    let (job, attempt) = (job.ok_or_else(gone)?, attempt.ok_or_else(gone)?);
    let lives = |member: &&Member| member.phase != Phase::Ended && member.replacement == key.replacement;
    let member = attempt.members.get(key.rank.0 as usize).filter(lives);
    let node = view.node(member.ok_or_else(gone)?.node).ok_or_else(gone)?;
    let queue = &job.spec.queue;
    // Whose task it is is decided before anything is said of it.
    allow(caller, Action::ReadSecret { node: &node.name, job: queue, queue: None })?;
    let step = job.spec.steps.get(key.task.step.0 as usize).ok_or_else(gone)?;
    let (mut values, mut bytes) = (BTreeMap::new(), 0);
    for used in &step.secrets {
        let name = &used.secret;
        let none =
            || Status::failed_precondition(format!("there is no secret `{name}` for queue `{queue}` (any more)"));
        let kept = view.secret(name).ok_or_else(none)?;
        let action = Action::ReadSecret { node: &node.name, job: queue, queue: kept.queue.as_ref() };
        allow(caller, action).map_err(|_| none())?;
        let sealed = shared.durable.get_bytes(&kept.sealed).await;
        let sealed = sealed.map_err(|error| Status::unavailable(format!("secret `{name}`: {error}")))?;
        let opened = shared.vault.open_sealed(&shared.cluster_id, name, &sealed);
        let plain = opened.map_err(|error| {
            // Its key may just be on the way here, or the secret be encrypted anew at this moment.
            Status::unavailable(format!(
                "secret `{name}` cannot be read: {error}. Bring back the coordinators' `secrets.key`, or keep the secret anew"
            ))
        })?;
        bytes += plain.bytes().len();
        if bytes > limits::STEP_SECRETS_BYTES {
            let most = limits::STEP_SECRETS_BYTES / 1_024;
            return Err(Status::failed_precondition(format!(
                "the secrets of one step have at most {most} KiB together"
            )));
        }
        values.insert(name.to_string(), plain.bytes().to_vec().into());
    }
    Ok(SecretsResponse { values })
}
