//! What applying a command answered, as bytes: for a replica that passed the command on to its leader.

use flowyard_model::{ClusterVersion, Incarnation, JobId, NodeId, Refusal, Rejection, Reply, TokenId};
use prost::Message;

use crate::decode::{self, Decoded, Problem, Under};
use crate::peer::command_rejection::Rejection as WireRejection;
use crate::peer::command_reply::Reply as WireReply;
use crate::peer::{self, RefusalReason};

/// A reply as bytes.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let wire = match reply {
        Reply::Submitted { job, existing } => {
            WireReply::Submitted(peer::ReplySubmitted { job: job.0, existing: *existing })
        }
        Reply::Registered { node, incarnation } => {
            WireReply::Registered(peer::ReplyRegistered { node: node.0, incarnation: incarnation.0 })
        }
        Reply::PlanCommitted { refused, refused_claims } => WireReply::PlanCommitted(peer::ReplyPlan {
            refused: refused_to_wire(refused),
            refused_claims: refused_to_wire(refused_claims),
        }),
        Reply::TokenCreated { token } => WireReply::TokenCreated(token.0),
        Reply::TokenUsed { grant } => WireReply::TokenUsed(grant.into()),
        Reply::Done => WireReply::Done(peer::ReplyDone {}),
        Reply::Rejected(rejection) => {
            WireReply::Rejected(peer::CommandRejection { rejection: Some(rejection_to_wire(rejection)) })
        }
    };
    peer::CommandReply { reply: Some(wire) }.encode_to_vec()
}

/// The reply that [`encode_reply`] wrote.
///
/// # Errors
/// When the bytes are damaged, or a newer build wrote what this one does not know.
pub fn decode_reply(bytes: &[u8]) -> Decoded<Reply> {
    let wire = peer::CommandReply::decode(bytes).map_err(Problem::from)?;
    Ok(match wire.reply.ok_or(Problem::Missing).under("reply")? {
        WireReply::Submitted(reply) => Reply::Submitted { job: JobId(reply.job), existing: reply.existing },
        WireReply::Registered(reply) => {
            Reply::Registered { node: NodeId(reply.node), incarnation: Incarnation(reply.incarnation) }
        }
        WireReply::PlanCommitted(reply) => Reply::PlanCommitted {
            refused: refused_of("refused", reply.refused)?,
            refused_claims: refused_of("refused_claims", reply.refused_claims)?,
        },
        WireReply::TokenCreated(token) => Reply::TokenCreated { token: TokenId(token) },
        WireReply::TokenUsed(grant) => Reply::TokenUsed { grant: grant.try_into().under("token_used")? },
        WireReply::Done(_) => Reply::Done,
        WireReply::Rejected(rejection) => {
            let rejection = rejection.rejection.ok_or(Problem::Missing).under("rejected")?;
            Reply::Rejected(rejection_of(rejection).under("rejected")?)
        }
    })
}

fn refused_to_wire(refused: &[(u32, Refusal)]) -> Vec<peer::RefusedPlacement> {
    let wire = |(placement, refusal): &(u32, Refusal)| peer::RefusedPlacement {
        placement: *placement,
        reason: reason_of(*refusal).into(),
    };
    refused.iter().map(wire).collect()
}

fn refused_of(field: &str, refused: Vec<peer::RefusedPlacement>) -> Decoded<Vec<(u32, Refusal)>> {
    let refused = refused.into_iter().enumerate();
    refused.map(|(at, it)| Ok((it.placement, refusal_of(it.reason).under_index(field, at)?))).collect()
}

fn reason_of(refusal: Refusal) -> RefusalReason {
    match refusal {
        Refusal::TaskNotReady => RefusalReason::TaskNotReady,
        Refusal::AtLimit => RefusalReason::AtLimit,
        Refusal::NodeChanged => RefusalReason::NodeChanged,
        Refusal::NoRoom => RefusalReason::NoRoom,
        Refusal::DeviceTaken => RefusalReason::DeviceTaken,
        Refusal::Malformed => RefusalReason::Malformed,
        Refusal::Protected => RefusalReason::Protected,
        Refusal::Claimed => RefusalReason::Claimed,
    }
}

fn refusal_of(number: i32) -> Result<Refusal, Problem> {
    match RefusalReason::try_from(number) {
        Ok(RefusalReason::TaskNotReady) => Ok(Refusal::TaskNotReady),
        Ok(RefusalReason::AtLimit) => Ok(Refusal::AtLimit),
        Ok(RefusalReason::NodeChanged) => Ok(Refusal::NodeChanged),
        Ok(RefusalReason::NoRoom) => Ok(Refusal::NoRoom),
        Ok(RefusalReason::DeviceTaken) => Ok(Refusal::DeviceTaken),
        Ok(RefusalReason::Malformed) => Ok(Refusal::Malformed),
        Ok(RefusalReason::Protected) => Ok(Refusal::Protected),
        Ok(RefusalReason::Claimed) => Ok(Refusal::Claimed),
        Ok(RefusalReason::Unspecified) | Err(_) => Err(Problem::UnknownValue { number }),
    }
}

fn rejection_to_wire(rejection: &Rejection) -> WireRejection {
    match rejection {
        Rejection::UnknownJob { job } => WireRejection::UnknownJob(job.0),
        Rejection::UnknownNode { node } => WireRejection::UnknownNode(node.clone()),
        Rejection::UnknownQueue { queue, known } => {
            WireRejection::UnknownQueue(peer::RejectedUnknownQueue { queue: queue.to_string(), known: known.clone() })
        }
        Rejection::QueueInUse { queue, jobs } => {
            WireRejection::QueueInUse(peer::RejectedQueueInUse { queue: queue.to_string(), jobs: *jobs })
        }
        Rejection::KeyReused { key, job } => {
            WireRejection::KeyReused(peer::RejectedKeyReused { key: key.clone(), job: job.0 })
        }
        Rejection::UnknownAfter { job } => WireRejection::UnknownAfter(job.0),
        Rejection::Invalid { path, message } => {
            WireRejection::Invalid(peer::RejectedInvalid { path: path.clone(), message: message.clone() })
        }
        Rejection::Infeasible { step, asked, exists } => WireRejection::Infeasible(peer::RejectedInfeasible {
            step: step.to_string(),
            asked: asked.clone(),
            exists: exists.clone(),
        }),
        Rejection::BadVersion { wished, current } => {
            WireRejection::BadVersion(peer::RejectedBadVersion { wished: wished.0, current: current.0 })
        }
        Rejection::NodeNameTaken { name } => WireRejection::NodeNameTaken(name.to_string()),
        Rejection::NodeInUse { node, members } => {
            WireRejection::NodeInUse(peer::RejectedNodeInUse { node: node.to_string(), members: *members })
        }
        Rejection::NodeOpen { node } => WireRejection::NodeOpen(node.to_string()),
        Rejection::UnknownToken { token } => WireRejection::UnknownToken(token.0),
        Rejection::TokenVoid { token, fault } => WireRejection::TokenVoid(peer::RejectedTokenVoid {
            token: token.0,
            fault: peer::TokenFault::from(*fault).into(),
        }),
        Rejection::PastMoved { what } => WireRejection::PastMoved(what.clone()),
        Rejection::NeedsVersion { needs, current } => {
            WireRejection::NeedsVersion(peer::RejectedNeedsVersion { needs: needs.0, current: current.0 })
        }
    }
}

fn rejection_of(wire: WireRejection) -> Decoded<Rejection> {
    Ok(match wire {
        WireRejection::UnknownJob(job) => Rejection::UnknownJob { job: JobId(job) },
        WireRejection::UnknownNode(node) => Rejection::UnknownNode { node },
        WireRejection::UnknownQueue(it) => {
            Rejection::UnknownQueue { queue: it.queue.parse().map_err(Problem::from).under("queue")?, known: it.known }
        }
        WireRejection::QueueInUse(it) => {
            Rejection::QueueInUse { queue: it.queue.parse().map_err(Problem::from).under("queue")?, jobs: it.jobs }
        }
        WireRejection::KeyReused(it) => Rejection::KeyReused { key: it.key, job: JobId(it.job) },
        WireRejection::UnknownAfter(job) => Rejection::UnknownAfter { job: JobId(job) },
        WireRejection::Invalid(it) => Rejection::Invalid { path: it.path, message: it.message },
        WireRejection::Infeasible(it) => {
            Rejection::Infeasible { step: decode::name("step", &it.step)?, asked: it.asked, exists: it.exists }
        }
        WireRejection::BadVersion(it) => {
            Rejection::BadVersion { wished: ClusterVersion(it.wished), current: ClusterVersion(it.current) }
        }
        WireRejection::NodeNameTaken(name) => Rejection::NodeNameTaken { name: decode::name("name", &name)? },
        WireRejection::NodeInUse(it) => {
            Rejection::NodeInUse { node: decode::name("node", &it.node)?, members: it.members }
        }
        WireRejection::NodeOpen(node) => Rejection::NodeOpen { node: decode::name("node", &node)? },
        WireRejection::UnknownToken(token) => Rejection::UnknownToken { token: TokenId(token) },
        WireRejection::TokenVoid(it) => {
            Rejection::TokenVoid { token: TokenId(it.token), fault: decode::closed("fault", it.fault)? }
        }
        WireRejection::PastMoved(what) => Rejection::PastMoved { what },
        WireRejection::NeedsVersion(it) => {
            Rejection::NeedsVersion { needs: ClusterVersion(it.needs), current: ClusterVersion(it.current) }
        }
    })
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Grant, Joiner, Role, TokenFault};

    use super::*;

    fn rejections() -> Vec<Rejection> {
        let (queue, name) = (|| "teams/vision".parse().unwrap(), || "train".parse().unwrap());
        vec![
            Rejection::UnknownJob { job: JobId(7) },
            Rejection::UnknownNode { node: "rack-3".to_owned() },
            Rejection::UnknownQueue { queue: queue(), known: "a, b".to_owned() },
            Rejection::QueueInUse { queue: queue(), jobs: 3 },
            Rejection::KeyReused { key: "nightly".to_owned(), job: JobId(9) },
            Rejection::UnknownAfter { job: JobId(2) },
            Rejection::Invalid { path: "steps.train".to_owned(), message: "no".to_owned() },
            Rejection::Infeasible { step: name(), asked: "9 GPUs".to_owned(), exists: "8".to_owned() },
            Rejection::BadVersion { wished: ClusterVersion(1), current: ClusterVersion(2) },
            Rejection::NodeNameTaken { name: name() },
            Rejection::NodeInUse { node: name(), members: 3 },
            Rejection::NodeOpen { node: name() },
            Rejection::UnknownToken { token: TokenId(3) },
            Rejection::TokenVoid { token: TokenId(3), fault: TokenFault::Spent },
            Rejection::PastMoved { what: "page 3".to_owned() },
            Rejection::NeedsVersion { needs: ClusterVersion(2), current: ClusterVersion(1) },
        ]
    }

    #[test]
    fn every_reply_comes_back_as_it_was_written() {
        let refusals = [
            Refusal::TaskNotReady,
            Refusal::AtLimit,
            Refusal::NodeChanged,
            Refusal::NoRoom,
            Refusal::DeviceTaken,
            Refusal::Malformed,
            Refusal::Protected,
            Refusal::Claimed,
        ];
        let mut replies = vec![
            Reply::Submitted { job: JobId(4), existing: true },
            Reply::Registered { node: NodeId(3), incarnation: Incarnation(2) },
            Reply::PlanCommitted { refused: (0..).zip(refusals).collect(), refused_claims: vec![] },
            Reply::PlanCommitted { refused: vec![], refused_claims: (3..).zip(refusals).collect() },
            Reply::PlanCommitted { refused: vec![], refused_claims: vec![] },
            Reply::TokenCreated { token: TokenId(12) },
            Reply::TokenUsed { grant: Grant::Join(Joiner::Agent) },
            Reply::TokenUsed { grant: Grant::Api { principal: "ann".parse().unwrap(), role: Role::Operator } },
            Reply::Done,
        ];
        replies.extend(rejections().into_iter().map(Reply::Rejected));
        for reply in replies {
            assert_eq!(decode_reply(&encode_reply(&reply)).unwrap(), reply);
        }
    }

    #[test]
    fn a_reply_of_an_unknown_kind_is_refused() {
        assert!(decode_reply(&[]).is_err());
        assert!(decode_reply(b"\xff\xff").is_err());
    }
}
