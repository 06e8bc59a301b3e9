//! The policy: what an operator says of the cluster as a whole.

use std::collections::BTreeSet;

use flowyard_model::{Command, Policy, limits, validate_policy};
use flowyard_proto::api::{self, GetPolicyResponse, LevelCount, PutPolicyResponse, Throttle, TokenCount};
use flowyard_proto::status::rejected;
use flowyard_state::View;
use tonic::Status;

use crate::coordinator::Shared;

/// Puts the policy as a whole.
pub(super) async fn put(shared: &Shared, policy: Policy) -> Result<PutPolicyResponse, Status> {
    validate_policy(&policy).map_err(|rejection| rejected(&rejection))?;
    shared.grow().await?;
    let before = shared.fresh_view().await?.policy().clone();
    if *before != policy {
        shared.propose(&Command::PutPolicy(policy.into())).await?;
    }
    Ok(PutPolicyResponse { before: Some((&*before).into()) })
}

/// A policy for the audit log.
pub(super) fn told(policy: &api::Policy) -> String {
    let levels = policy.topology.iter().take(limits::TOPOLOGY_LEVELS).cloned().collect::<Vec<_>>().join(", ");
    let tokens = policy.tokens.iter().take(limits::QUEUE_COLUMNS).map(|(name, count)| format!(" {name} {count}"));
    let tokens = tokens.collect::<String>();
    let tokens = if tokens.is_empty() { tokens } else { format!("; tokens{tokens}") };
    format!("topology {levels}{}{tokens}", throttle(policy.throttle.unwrap_or_default()))
}

/// A throttle; nothing if there is none.
fn throttle(throttle: Throttle) -> String {
    let most = |word: &str, most: Option<u32>| most.map_or_else(String::new, |most| format!(" {word} {most}"));
    match (throttle.per_job, throttle.per_node) {
        (None, None) => String::new(),
        (job, node) => format!("; throttle{}{}", most("per_job", job), most("per_node", node)),
    }
}

/// The policy, and how the nodes are spread over its levels.
pub(super) fn get(view: &View) -> GetPolicyResponse {
    let policy = view.policy();
    let mut domains: Vec<(BTreeSet<Vec<&str>>, u32)> = vec![Default::default(); policy.topology.len()];
    for (_, node) in view.nodes() {
        let domain = policy.domain(&node.inventory);
        for (depth, (known, nodes)) in domains.iter_mut().enumerate().take(domain.len()) {
            known.insert(domain[..=depth].to_vec());
            *nodes += 1;
        }
    }
    let levels = domains.iter().map(|(known, nodes)| LevelCount { domains: known.len() as u32, nodes: *nodes });
    let token = |(name, all): (&flowyard_model::Name, &u64)| TokenCount {
        name: name.to_string(),
        all: *all,
        held: view.shared_held(name),
    };
    let tokens = policy.tokens.iter().map(token).collect();
    GetPolicyResponse { policy: Some((&**policy).into()), levels: levels.collect(), tokens }
}
