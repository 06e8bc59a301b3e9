//! How hollow agents are let in: each shows a token, as any agent does, and keeps what it is given in memory.

use std::sync::Arc;

use flowyard_agent::fleet::{Admission, JoinError, admit};
use flowyard_identity::{Certificate, Clock, Connector, Credential, Current, Doors, JoinToken, Trust};
use flowyard_model::{Epoch, Name};
use tokio::sync::OnceCell;

/// What all agents of one cluster believe; the first that joins learns it.
#[derive(Debug, Default)]
pub(crate) struct Believed {
    trust: OnceCell<Arc<Trust>>,
}

impl Believed {
    /// Joins as the agent of a node; the way to the coordinators as that agent.
    pub(crate) async fn join(&self, token: &JoinToken, name: &Name) -> Result<Doors, JoinError> {
        let Admission { authority, request, answer } = admit(token, name).await?;
        let make = async || Trust::new(authority, Epoch(answer.epoch), Clock::wall(), |_| false).map(Arc::new);
        let trust = self.trust.get_or_try_init(make).await?;
        let certificate = Certificate::from(answer.certificate.to_vec());
        let own = Current::new(Credential::new(&request, vec![certificate], trust)?);
        // In the token's order: whoever made it named the coordinator that leads first.
        let addresses = token.addresses.clone();
        Ok(Doors::new(addresses, Connector::new(Arc::clone(trust), Some(own))))
    }
}
