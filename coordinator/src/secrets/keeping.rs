//! What people do with secrets: keep, list and forget them, and have them encrypted with another key.

use flowyard_identity::{KeyringError, Plain, SealError};
use flowyard_model::{Command, Digest, Fingerprint, KeptSecret, Name, PutSecret, QueuePath, Revision, limits};
use flowyard_proto::cluster::secrets_server::Secrets;
use flowyard_proto::cluster::{
    ListSecretsRequest, ListSecretsResponse, PutSecretRequest, PutSecretResponse, RemoveSecretRequest,
    RemoveSecretResponse, RotateKeyRequest, RotateKeyResponse, SecretLine,
};
use flowyard_state::View;
use tonic::{Request, Response, Status};

use super::{Only, hand_over};
use crate::access::{Action, Caller, allow};
use crate::caller::{self, allowed};
use crate::coordinator::Shared;
use crate::queues::must_exist;

/// The service.
#[derive(Clone)]
pub(crate) struct SecretsEndpoint {
    shared: Shared,
}

pub(super) fn no_keys(error: &KeyringError) -> Status {
    Status::internal(format!("the keys of secrets: {error}"))
}

fn no_such(name: &Name) -> Status {
    Status::not_found(format!("there is no secret `{name}`; `fctl secret ls` lists them"))
}

fn named(name: &str) -> Result<Name, Status> {
    name.parse().map_err(|error| Status::invalid_argument(format!("name: {error}")))
}

/// The queue that a secret is for, which has to exist or to have queues below it.
fn queue(view: &View, path: Option<String>) -> Result<Option<QueuePath>, Status> {
    let Some(path) = path else { return Ok(None) };
    let queue: QueuePath = path.parse().map_err(|error| Status::invalid_argument(format!("queue: {error}")))?;
    must_exist(view, &queue)?;
    Ok(Some(queue))
}

impl SecretsEndpoint {
    /// A service of this coordinator.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// The secret, if the caller may know of it and change it.
    fn changeable(&self, view: &View, caller: &Caller, name: &Name) -> Result<KeptSecret, Status> {
        let kept = view.secret(name).ok_or_else(|| no_such(name))?;
        let queue = kept.queue.as_ref();
        allow(caller, Action::LookAtSecret { queue }).map_err(|_| no_such(name))?;
        allow(caller, Action::ChangeSecret { queue })?;
        Ok(kept.as_ref().clone())
    }

    /// Stores the ciphertext where a majority has it, and says in the log that it is there.
    async fn keep(&self, plain: &Plain, key: Fingerprint, put: Wish<'_>) -> Result<(), Status> {
        let Wish { name, queue, replaces, by } = put;
        let sealed = self.shared.vault.seal(&key, &self.shared.cluster_id, name, plain);
        let sealed = sealed.map_err(|error| Status::internal(error.to_string()))?;
        let unavailable = |error: &dyn std::fmt::Display| Status::unavailable(format!("the secret: {error}"));
        let durable = &self.shared.durable;
        let sealed: Digest = durable.here().put_bytes(sealed.into()).await.map_err(|error| unavailable(&error))?;
        durable.confirm(&[sealed], None).await.map_err(|error| unavailable(&error))?;
        let put = PutSecret { name: name.clone(), queue, sealed, key, replaces, by };
        self.shared.propose(&Command::PutSecret(put)).await.map(drop)
    }

    async fn encrypt_anew(&self, by: &str) -> Result<RotateKeyResponse, Status> {
        let (shared, vault) = (&self.shared, &self.shared.vault);
        let term = shared.leading_term()?;
        let before = vault.fingerprints();
        let key = vault.change(flowyard_identity::Keyring::grow).map_err(|error| no_keys(&error))?;
        if let Err(status) = hand_over(shared, None).await {
            // Nothing is encrypted with it, and tries that fail must not fill the file of keys.
            vault.change(|keys| keys.keep(&before)).map_err(|error| no_keys(&error))?;
            return Err(status);
        }
        let mut answer = RotateKeyResponse { encrypted: 0, lost: Vec::new() };
        let view = shared.fresh_view().await?;
        let all: Vec<(Name, KeptSecret)> =
            view.secrets().map(|(name, kept)| (name.clone(), kept.as_ref().clone())).collect();
        for (name, kept) in &all {
            let bytes = shared.durable.get_bytes(&kept.sealed).await;
            let bytes = bytes.map_err(|error| Status::unavailable(format!("secret `{name}`: {error}")))?;
            let plain = match vault.open_sealed(&shared.cluster_id, name, &bytes) {
                Ok(plain) => plain,
                Err(SealError::LostKey(_)) => {
                    answer.lost.push(name.to_string());
                    continue;
                }
                Err(error) => return Err(Status::data_loss(format!("secret `{name}`: {error}"))),
            };
            let (queue, replaces, by) = (kept.queue.clone(), Some(kept.revision), by.to_owned());
            self.keep(&plain, key, Wish { name, queue, replaces, by }).await?;
            answer.encrypted += 1;
        }
        // Nothing is encrypted with the old ones any more.
        let mut used: Vec<Fingerprint> = shared.fresh_view().await?.secrets().map(|(_, kept)| kept.key).collect();
        used.push(key);
        hand_over(shared, Some(Only { keys: &used, term })).await?;
        vault.change(|keys| keys.keep(&used)).map_err(|error| no_keys(&error))?;
        Ok(answer)
    }
}

/// What is to be kept under a name.
struct Wish<'a> {
    name: &'a Name,
    queue: Option<QueuePath>,
    replaces: Option<Revision>,
    by: String,
}

#[tonic::async_trait]
impl Secrets for SecretsEndpoint {
    async fn put(&self, request: Request<PutSecretRequest>) -> Result<Response<PutSecretResponse>, Status> {
        let caller = caller::of(&request)?;
        caller::about(&request, &format!("secret {}", request.get_ref().name));
        let PutSecretRequest { name, queue: path, value } = request.into_inner();
        let (name, plain) = (named(&name)?, Plain::new(value.to_vec()));
        let view = self.shared.fresh_view().await?;
        let queue = queue(&view, path)?;
        allow(&caller, Action::ChangeSecret { queue: queue.as_ref() })?;
        let before = view.secret(&name).is_some();
        if before {
            self.changeable(&view, &caller, &name).map_err(|status| match status.code() {
                tonic::Code::NotFound => Status::already_exists(format!("the name `{name}` is taken; choose another")),
                _ => status,
            })?;
        }
        if !(1..=limits::SECRET_BYTES).contains(&plain.bytes().len()) {
            let most = limits::SECRET_BYTES / 1_024;
            return Err(Status::invalid_argument(format!("a secret has at least one byte and at most {most} KiB")));
        }
        self.shared.grow().await?;
        let _changing = self.shared.vault.changing.lock().await;
        let key = match self.shared.vault.sealing(&view) {
            Some(key) => key,
            None => self.shared.vault.change(flowyard_identity::Keyring::grow).map_err(|error| no_keys(&error))?,
        };
        hand_over(&self.shared, None).await?;
        let put = Wish { name: &name, queue, replaces: None, by: caller.principal() };
        self.keep(&plain, key, put).await?;
        tracing::info!(%name, by = caller.principal(), "a secret was kept");
        Ok(Response::new(PutSecretResponse { replaced: before }))
    }

    async fn list(&self, request: Request<ListSecretsRequest>) -> Result<Response<ListSecretsResponse>, Status> {
        let caller = allowed(&request, Action::ListSecrets)?;
        let view = self.shared.fresh_view().await?;
        let seen = |kept: &KeptSecret| allow(&caller, Action::LookAtSecret { queue: kept.queue.as_ref() }).is_ok();
        let lines = view.secrets().filter(|(_, kept)| seen(kept)).map(|(name, kept)| SecretLine {
            name: name.to_string(),
            queue: kept.queue.as_ref().map(ToString::to_string),
            by: kept.by.clone(),
            at_ms: kept.at.0,
            key: kept.key.0.to_vec().into(),
            readable: self.shared.vault.has(kept),
        });
        Ok(Response::new(ListSecretsResponse { secrets: lines.collect() }))
    }

    async fn remove(&self, request: Request<RemoveSecretRequest>) -> Result<Response<RemoveSecretResponse>, Status> {
        let caller = caller::of(&request)?;
        caller::about(&request, &format!("secret {}", request.get_ref().name));
        let name = named(&request.get_ref().name)?;
        self.changeable(&self.shared.fresh_view().await?, &caller, &name)?;
        let _changing = self.shared.vault.changing.lock().await;
        self.shared.propose(&Command::DropSecret { name: name.clone() }).await?;
        tracing::info!(%name, by = caller.principal(), "a secret was forgotten");
        Ok(Response::new(RemoveSecretResponse {}))
    }

    async fn rotate_key(&self, request: Request<RotateKeyRequest>) -> Result<Response<RotateKeyResponse>, Status> {
        let caller = allowed(&request, Action::RotateSecretKey)?;
        let _changing = self.shared.vault.changing.lock().await;
        let answer = self.encrypt_anew(&caller.principal()).await?;
        tracing::info!(secrets = answer.encrypted, by = caller.principal(), "secrets were encrypted with a new key");
        Ok(Response::new(answer))
    }
}
