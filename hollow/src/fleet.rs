//! All hollow agents of one process.

use std::sync::Arc;

use flowyard_agent::fleet::JoinError;
use flowyard_identity::{Doors, JoinToken, TokenError};
use flowyard_model::Name;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::attempts::Attempts;
use crate::counts::Counts;
use crate::joining::Believed;
use crate::link::Link;
use crate::order::Order;
use crate::shake::Shake;

/// Joins under way at a time: a coordinator takes sixteen calls of one address that has shown nothing yet.
const JOINING: usize = 8;
/// Sessions being begun at a time.
const CONNECTING: usize = 64;
/// How often an agent tries to join, and how long it waits in between.
const TRIES: u32 = 20;
const AGAIN: std::time::Duration = std::time::Duration::from_millis(250);
/// Descriptors beside those of agents.
const SPARE: u64 = 256;

/// Why a hollow fleet cannot be.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Too few descriptors.
    #[error(
        "{nodes} hollow agents need {needed} open files in one process, and this one may have {allowed}; raise the limit \
         (`ulimit -Hn {needed}`, or LimitNOFILE of a unit), or use fewer nodes"
    )]
    Descriptors {
        /// Agents.
        nodes: u32,
        /// What they need.
        needed: u64,
        /// What there is.
        allowed: u64,
    },
    /// A token that is none.
    #[error("a token of the fleet: {0}")]
    Token(#[from] TokenError),
    /// Fewer uses than nodes.
    #[error("the tokens let {allowed} agents in, and {nodes} are wanted")]
    Tokens {
        /// Agents.
        nodes: u32,
        /// Uses of all tokens.
        allowed: u64,
    },
    /// A name that is none.
    #[error("the name of a hollow node: {0}")]
    Name(String),
    /// An agent was not let in.
    #[error("hollow node {name} could not join: {source}")]
    Join {
        /// Its name.
        name: Name,
        /// Why.
        source: JoinError,
    },
}

/// Open files that so many agents need in one process.
pub fn descriptors_for(nodes: u32) -> u64 {
    u64::from(nodes) + SPARE
}

/// Lets this process have as many open files as so many agents need.
///
/// # Errors
/// When it may not.
pub fn raise_descriptors(nodes: u32) -> Result<(), FleetError> {
    let needed = descriptors_for(nodes);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // A process of the system may have more than it was allowed; where it may not, the limit stays.
    let most = limit.maximum.map_or(needed, |most| most.max(needed));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: Some(most) }).is_ok() {
        return Ok(());
    }
    let allowed = limit.maximum.unwrap_or(needed);
    let raised = Rlimit { current: Some(needed.min(allowed)), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) if allowed >= needed => Ok(()),
        _ => Err(FleetError::Descriptors { nodes, needed, allowed }),
    }
}

/// Runs the agents until this is dropped; they lose their connections as they are told.
///
/// # Errors
/// When one of them is not let in, for good.
pub async fn run(
    order: Order,
    counts: Arc<Counts>,
    shaken: watch::Receiver<Shake>,
) -> Result<std::convert::Infallible, FleetError> {
    let nodes = order.nodes();
    raise_descriptors(nodes)?;
    let tokens = Tokens::of(&order)?;
    let believed = Arc::new(Believed::default());
    let (joining, turn) = (Arc::new(Semaphore::new(JOINING)), Arc::new(Semaphore::new(CONNECTING)));
    let run: Arc<str> = order.run.as_str().into();
    let mut agents = JoinSet::new();
    let mut number = 0;
    for class in &order.classes {
        let inventory = Arc::new(class.inventory.clone());
        for _ in 0..class.count {
            let name: Name = order.name(number).parse().map_err(|error| FleetError::Name(format!("{error}")))?;
            let token = tokens.of_node(number);
            let attempts = Attempts::none(Arc::clone(&run), order.fates, Arc::clone(&counts));
            let (believed, joining, turn) = (Arc::clone(&believed), Arc::clone(&joining), Arc::clone(&turn));
            let (counts, inventory, shaken) = (Arc::clone(&counts), Arc::clone(&inventory), shaken.clone());
            agents.spawn(async move {
                let doors = {
                    // It is never closed.
                    let _turn = joining.acquire().await;
                    join(&believed, &token, &name, &counts).await?
                };
                counts.add(&counts.joined);
                let never = Link::new(name, inventory, doors, attempts, counts, turn).shaken(shaken).keep().await;
                Ok::<_, FleetError>(never)
            });
            number += 1;
        }
    }
    loop {
        match agents.join_next().await {
            Some(Ok(Ok(never))) => match never {},
            Some(Ok(Err(error))) => return Err(error),
            Some(Err(panic)) => counts.trouble(format!("a hollow agent failed: {panic}")),
            None => std::future::pending().await,
        }
    }
}

/// Joins, again while the cluster is busy with something else.
async fn join(believed: &Believed, token: &JoinToken, name: &Name, counts: &Counts) -> Result<Doors, FleetError> {
    let mut tries = 0;
    loop {
        let source = match believed.join(token, name).await {
            Ok(doors) => return Ok(doors),
            Err(source) => source,
        };
        tries += 1;
        let passes = match &source {
            JoinError::Refused(status) => status.code() == tonic::Code::Unavailable,
            JoinError::Unreachable(_) | JoinError::Broken(_) => true,
            _ => false,
        };
        if !passes || tries == TRIES {
            return Err(FleetError::Join { name: name.clone(), source });
        }
        counts.trouble(format!("{name} could not join at once: {source}"));
        tokio::time::sleep(AGAIN).await;
    }
}

/// Which agent shows which token.
struct Tokens(Vec<(Arc<JoinToken>, u32)>);

impl Tokens {
    fn of(order: &Order) -> Result<Self, FleetError> {
        let read = |(text, uses): &(String, u32)| Ok::<_, TokenError>((Arc::new(text.parse()?), *uses));
        let tokens = order.tokens.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let allowed: u64 = tokens.iter().map(|(_, uses)| u64::from(*uses)).sum();
        match allowed >= u64::from(order.nodes()) && !tokens.is_empty() {
            true => Ok(Self(tokens)),
            false => Err(FleetError::Tokens { nodes: order.nodes(), allowed }),
        }
    }

    fn of_node(&self, number: u32) -> Arc<JoinToken> {
        let mut left = number;
        for (token, uses) in &self.0 {
            if left < *uses {
                return Arc::clone(token);
            }
            left -= uses;
        }
        Arc::clone(&self.0[self.0.len() - 1].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_may_not_have_is_said_with_the_way_out() {
        raise_descriptors(1).expect("a test may open some files");
        let error =
            FleetError::Descriptors { nodes: 10_000, needed: descriptors_for(10_000), allowed: 1_024 }.to_string();
        assert!(error.contains("10256") && error.contains("1024") && error.contains("LimitNOFILE"), "{error}");
    }
}
