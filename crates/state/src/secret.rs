//! Secrets: their names, whom they are for, and where their ciphertext is. What they are never comes here.

use std::sync::Arc;

use flowyard_model::{KeptSecret, Name, PutSecret, Rejection, Reply, limits};

use crate::state::State;

/// Applies `PutSecret`.
pub(crate) fn put(state: &mut State, wish: PutSecret) -> Reply {
    let refused = |message: String| Reply::Rejected(Rejection::Invalid { path: "secret".to_owned(), message });
    let known = state.secrets.get(&wish.name);
    if wish.replaces.is_some_and(|revision| known.is_none_or(|known| known.revision != revision)) {
        return refused(format!("`{}` was changed meanwhile", wish.name));
    }
    if known.is_none() && state.secrets.len() >= limits::SECRETS {
        return refused(format!("{} secrets are kept already; remove some", limits::SECRETS));
    }
    if wish.by.len() > limits::TEXT_BYTES {
        return refused(format!("the name of who asks has at most {} bytes", limits::TEXT_BYTES));
    }
    let PutSecret { name, queue, sealed, key, by, .. } = wish;
    let kept = KeptSecret { queue, revision: state.meta.revision, sealed, key, by, at: state.meta.time };
    state.secrets.insert(name, Arc::new(kept));
    Reply::Done
}

/// Applies `DropSecret`.
pub(crate) fn drop_secret(state: &mut State, name: &Name) -> Reply {
    match state.secrets.remove(name) {
        Some(_) => Reply::Done,
        None => {
            let message = format!("there is no `{name}`; `fctl secret ls` lists them");
            Reply::Rejected(Rejection::Invalid { path: "secret".to_owned(), message })
        }
    }
}

impl State {
    /// A secret.
    pub fn secret(&self, name: &Name) -> Option<&Arc<KeptSecret>> {
        self.secrets.get(name)
    }

    /// All secrets, by name.
    pub fn secrets(&self) -> impl Iterator<Item = (&Name, &Arc<KeptSecret>)> {
        self.secrets.iter()
    }
}
