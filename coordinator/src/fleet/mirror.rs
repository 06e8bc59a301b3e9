//! The origin of a fleet that has no object store: each coordinator keeps every blob, and a blob counts as stored once a majority of
//! the voters has it on disk.
//!
//! Blobs are named by their content, so copies cannot differ and need no agreement beyond who is a member.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flowyard_cas::{Origin, StoreError};
use flowyard_model::Digest;
use flowyard_proto::blob::blobs_client::BlobsClient;
use flowyard_proto::blob::{GetRequest, MissingRequest, PutRequest};
use futures::StreamExt;
use futures::stream::{FuturesUnordered, Stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::{MemberAddress, PeerChannels};
use crate::applier::Applier;
use crate::raft::Replica;

/// Blobs asked about or sent in one call.
const BATCH: usize = 1_000;
/// Bytes of one message.
const PIECE: usize = 256 * 1024;
/// Messages on their way to one member.
const ON_THE_WAY: usize = 8;
/// How long one member may take over a batch before the others have to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// Blobs known to be with a majority that are remembered.
const CONFIRMED: usize = 1_000_000;

/// The copies on other coordinators; cheap to clone.
#[derive(Clone)]
pub(crate) struct Mirror {
    replica: Replica<Applier>,
    channels: PeerChannels,
    own: Origin,
    confirmed: Arc<Mutex<HashSet<Digest>>>,
}

/// Why a blob is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorError {
    /// Too few have it.
    #[error("only {have} of {voters} coordinators have what was stored, and {needed} are needed: {why}")]
    Minority {
        /// How many have it.
        have: usize,
        /// How many vote.
        voters: usize,
        /// How many it takes.
        needed: usize,
        /// What the last of the others said.
        why: String,
    },
    /// Our own copy.
    #[error(transparent)]
    Own(#[from] StoreError),
}

impl Mirror {
    /// The copies that the other members of this replica's cluster keep of `own`.
    pub(crate) fn new(replica: Replica<Applier>, channels: PeerChannels, own: Origin) -> Self {
        Self { replica, channels, own, confirmed: Arc::default() }
    }

    /// The voters but this replica, as far as their addresses can be used, and how many vote in all.
    fn voters(&self) -> (Vec<Channel>, usize) {
        let own = self.replica.identity().replica;
        let voters: Vec<_> = self.replica.members().into_iter().filter(|member| member.votes).collect();
        let count = voters.len().max(1);
        let others = voters.iter().filter(|member| member.peer.replica != own);
        let channels =
            others.filter_map(|member| self.channels.to(&member.peer.address.parse::<MemberAddress>().ok()?));
        (channels.collect(), count)
    }

    /// Has a majority keep blobs that are here. Returns once it does; the others go on.
    ///
    /// # Errors
    /// When too few can.
    pub(crate) async fn spread(&self, digests: &[Digest]) -> Result<(), MirrorError> {
        let wanted: Vec<Digest> = {
            let confirmed = self.lock();
            digests.iter().filter(|digest| !confirmed.contains(digest)).copied().collect()
        };
        for batch in wanted.chunks(BATCH) {
            self.spread_batch(batch).await?;
            let mut confirmed = self.lock();
            if confirmed.len() + batch.len() > CONFIRMED {
                confirmed.clear();
            }
            confirmed.extend(batch);
        }
        Ok(())
    }

    async fn spread_batch(&self, batch: &[Digest]) -> Result<(), MirrorError> {
        let (others, voters) = self.voters();
        let (needed, mut have, mut why) = (voters / 2 + 1, 1, "nobody else answers".to_owned());
        let batch: Arc<[Digest]> = batch.into();
        let mut sending: FuturesUnordered<_> = others
            .into_iter()
            .map(|channel| {
                let (own, batch) = (self.own.clone(), batch.clone());
                // On its own, so that who is slower than the majority gets it all the same.
                tokio::spawn(async move {
                    let sent = tokio::time::timeout(PATIENCE, send(channel, own, &batch)).await;
                    sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("it took too long")))
                })
            })
            .collect();
        while have < needed {
            match sending.next().await {
                Some(Ok(Ok(()))) => have += 1,
                Some(Ok(Err(status))) => status.message().clone_into(&mut why),
                Some(Err(panic)) => why = panic.to_string(),
                None => return Err(MirrorError::Minority { have, voters, needed, why }),
            }
        }
        Ok(())
    }

    /// Brings a blob that is not here from whoever has it.
    ///
    /// # Errors
    /// When nobody has it, or it cannot be kept.
    pub(crate) async fn bring(&self, digest: Digest) -> Result<(), StoreError> {
        if self.own.contains(&digest).await? {
            return Ok(());
        }
        let (others, _) = self.voters();
        for channel in others {
            match fetch(channel, &self.own, digest).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(%digest, %error, "a coordinator does not have a blob"),
            }
        }
        Err(StoreError::Missing { digest, place: "any coordinator that answers".to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends one member what it lacks of the batch.
async fn send(channel: Channel, own: Origin, batch: &[Digest]) -> Result<(), Status> {
    let mut client = BlobsClient::new(channel);
    let asked = MissingRequest { digests: batch.iter().map(|digest| (*digest).into()).collect() };
    let missing = client.missing(asked).await?.into_inner().digests;
    let missing = missing.into_iter().map(Digest::try_from).collect::<Result<Vec<_>, _>>();
    let missing = missing.map_err(|error| Status::internal(error.to_string()))?;
    if missing.is_empty() {
        return Ok(());
    }
    let (parts, outgoing) = mpsc::channel(ON_THE_WAY);
    let reading = async move {
        for digest in missing {
            if read(&own, digest, &parts).await.is_err() {
                // The other side misses the rest, and answers for what it got: less than was announced is not stored.
                break;
            }
        }
    };
    let (answer, ()) = tokio::join!(client.put(ReceiverStream::new(outgoing)), reading);
    answer.map(drop)
}

async fn read(own: &Origin, digest: Digest, parts: &mpsc::Sender<PutRequest>) -> Result<(), ()> {
    let begin = PutRequest { digest: Some(digest.into()), bytes: Bytes::new() };
    parts.send(begin).await.map_err(drop)?;
    let mut pieces = own.get_stream(&digest).await.map_err(drop)?;
    while let Some(piece) = pieces.next().await {
        let mut piece = piece.map_err(drop)?;
        while !piece.is_empty() {
            let bytes = piece.split_to(piece.len().min(PIECE));
            parts.send(PutRequest { digest: None, bytes }).await.map_err(drop)?;
        }
    }
    Ok(())
}

/// Stores what one member has under this digest; checked as everything that is stored.
async fn fetch(channel: Channel, own: &Origin, digest: Digest) -> Result<(), FetchError> {
    let request = GetRequest { digest: Some(digest.into()), offset: 0, length: None, job: None };
    let mut pieces = BlobsClient::new(channel).get(request).await?.into_inner();
    let mut upload = own.upload(digest, "another coordinator");
    while let Some(piece) = next(&mut pieces).await? {
        upload.write(piece).await?;
    }
    Ok(upload.finish().await?)
}

async fn next(
    pieces: &mut (impl Stream<Item = Result<flowyard_proto::blob::GetResponse, Status>> + Unpin),
) -> Result<Option<Bytes>, Status> {
    Ok(pieces.next().await.transpose()?.map(|piece| piece.bytes))
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Status(#[from] Status),
    #[error(transparent)]
    Store(#[from] StoreError),
}
