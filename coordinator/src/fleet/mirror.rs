//! The origin of a fleet that has no object store: each coordinator keeps every blob, and a blob counts as stored once a majority of
//! the voters has it on disk.
//!
//! Blobs are named by their content, so copies cannot differ and need no agreement beyond who is a member.

use std::collections::{BTreeSet, HashSet};
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
use crate::raft::{Replica, Voting};

/// Blobs asked about or sent in one call.
const BATCH: usize = 1_000;
/// Bytes of one message.
const PIECE: usize = 256 * 1024;
/// Messages on their way to one member.
const ON_THE_WAY: usize = 8;
/// How long one member may take over a batch before the others have to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one member may take to say what it lacks.
const ASK: Duration = Duration::from_secs(3);
/// How long it is remembered.
const CONFIRMED_MS: u64 = 3_600_000;
/// Blobs known to be with a majority that are remembered.
const CONFIRMED: usize = 1_000_000;

/// The copies on other coordinators; cheap to clone.
#[derive(Clone)]
pub(crate) struct Mirror {
    replica: Replica<Applier>,
    channels: PeerChannels,
    own: Origin,
    confirmed: Arc<Mutex<Confirmed>>,
}

/// Blobs that are known to be with a majority of those who voted.
#[derive(Debug, Default)]
struct Confirmed {
    with: Option<Voting>,
    /// Since when, in boot time.
    since_ms: u64,
    blobs: HashSet<Digest>,
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

    /// The other members, as far as their addresses can be used.
    fn others(&self) -> Vec<(u64, Channel)> {
        let own = self.replica.identity().replica;
        let others = self.replica.members().into_iter().filter(|member| member.peer.replica != own);
        let reached = others.filter_map(|member| {
            let address = member.peer.address.parse::<MemberAddress>().ok()?;
            Some((member.peer.replica, self.channels.to(&address)?))
        });
        reached.collect()
    }

    /// Has a majority keep blobs that are here. Returns once it does; the others go on. With `stored_by` they are told who has
    /// just stored them.
    ///
    /// # Errors
    /// When too few can.
    pub(crate) async fn spread(&self, digests: &[Digest], stored_by: Option<&str>) -> Result<(), MirrorError> {
        let known = |digest: &&Digest| stored_by.is_none() && self.is_confirmed(digest);
        let wanted: Vec<Digest> = digests.iter().filter(|digest| !known(digest)).copied().collect();
        for batch in wanted.chunks(BATCH) {
            let voting = self.spread_batch(batch, stored_by).await?;
            self.lock().add(voting, batch);
        }
        Ok(())
    }

    /// Returns who voted when a majority of them had the batch.
    async fn spread_batch(&self, batch: &[Digest], stored_by: Option<&str>) -> Result<Voting, MirrorError> {
        let batch: Arc<[Digest]> = batch.into();
        let stored_by: Option<Arc<str>> = stored_by.map(Into::into);
        let mut have = BTreeSet::from([self.replica.identity().replica]);
        let (mut asked, mut why) = (BTreeSet::new(), "nobody else answers".to_owned());
        let mut sending = FuturesUnordered::new();
        loop {
            // Asked anew after each answer: who votes may change meanwhile, and only who does now counts.
            let voting = self.replica.voting();
            if voting.agree(&have) {
                return Ok(voting);
            }
            let voters = self.others().into_iter().filter(|(replica, _)| voting.has(*replica));
            for (replica, channel) in voters.filter(|(replica, _)| asked.insert(*replica)) {
                let (own, batch, by) = (self.own.clone(), batch.clone(), stored_by.clone());
                // On its own, so that who is slower than the majority gets it all the same.
                sending.push(tokio::spawn(async move {
                    let sent = tokio::time::timeout(PATIENCE, send(channel, own, &batch, by)).await;
                    (replica, sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("it took too long"))))
                }));
            }
            match sending.next().await {
                Some(Ok((replica, Ok(())))) => drop(have.insert(replica)),
                Some(Ok((_, Err(status)))) => status.message().clone_into(&mut why),
                Some(Err(panic)) => why = panic.to_string(),
                None => {
                    let (have, voters, needed) = voting.lacking(&have);
                    return Err(MirrorError::Minority { have, voters, needed, why });
                }
            }
        }
    }

    /// Brings a blob that is not here from whoever has it.
    ///
    /// # Errors
    /// When nobody has it, or it cannot be kept.
    pub(crate) async fn bring(&self, digest: Digest) -> Result<(), StoreError> {
        if self.own.contains(&digest).await? {
            return Ok(());
        }
        for (_, channel) in self.others() {
            match fetch(channel, &self.own, digest).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(%digest, %error, "a coordinator does not have a blob"),
            }
        }
        Err(StoreError::Missing { digest, place: "any coordinator that answers".to_owned() })
    }

    /// Brings those of these blobs, which are not here, that others have; the rest is returned. Each of the others is asked once
    /// for all, so that a large upload of what nobody has costs no more.
    ///
    /// # Errors
    /// When one cannot be kept.
    pub(crate) async fn bring_all(&self, mut missing: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        if missing.is_empty() {
            return Ok(missing);
        }
        let asked = self.others().into_iter().map(async |(_, channel)| {
            let answer = tokio::time::timeout(ASK, lacking(channel.clone(), &missing, None)).await;
            Some((channel, answer.ok()?.ok()?))
        });
        for (channel, lacks) in futures::future::join_all(asked).await.into_iter().flatten() {
            let lacks: HashSet<Digest> = lacks.into_iter().collect();
            let (mut left, wanted): (Vec<_>, Vec<_>) = missing.into_iter().partition(|digest| lacks.contains(digest));
            for digest in wanted {
                match fetch(channel.clone(), &self.own, digest).await {
                    Ok(()) => {}
                    Err(FetchError::Store(error)) if error.is_disk_full() => return Err(error),
                    Err(error) => {
                        tracing::debug!(%digest, %error, "a blob could not be brought");
                        left.push(digest);
                    }
                }
            }
            missing = left;
        }
        Ok(missing)
    }

    fn is_confirmed(&self, digest: &Digest) -> bool {
        let voting = self.replica.voting();
        let confirmed = self.lock();
        confirmed.holds(&voting) && confirmed.blobs.contains(digest)
    }

    fn lock(&self) -> MutexGuard<'_, Confirmed> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Confirmed {
    /// These are with a majority of those who vote. What was with a majority of others may be with fewer of them.
    fn add(&mut self, voting: Voting, blobs: &[Digest]) {
        if !self.holds(&voting) || self.blobs.len() + blobs.len() > CONFIRMED {
            *self = Self { with: Some(voting), since_ms: flowyard_clock::boot_ms(), blobs: HashSet::new() };
        }
        self.blobs.extend(blobs);
    }

    /// Whether it still says something. The others are asked again in time, which also makes a blob young there that is about to
    /// be used: what no job names yet is removed when it is old.
    fn holds(&self, voting: &Voting) -> bool {
        let age_ms = flowyard_clock::boot_ms().saturating_sub(self.since_ms);
        self.with.as_ref() == Some(voting) && age_ms < CONFIRMED_MS
    }
}

/// Those of the digests that the other side lacks.
async fn lacking(channel: Channel, digests: &[Digest], stored_by: Option<&str>) -> Result<Vec<Digest>, Status> {
    let digests = digests.iter().map(|digest| (*digest).into()).collect();
    let asked = MissingRequest { digests, stored_by: stored_by.map(str::to_owned) };
    let missing = BlobsClient::new(channel).missing(asked).await?.into_inner().digests;
    let missing = missing.into_iter().map(Digest::try_from).collect::<Result<Vec<_>, _>>();
    missing.map_err(|error| Status::internal(error.to_string()))
}

/// Sends one member what it lacks of the batch.
async fn send(channel: Channel, own: Origin, batch: &[Digest], stored_by: Option<Arc<str>>) -> Result<(), Status> {
    let missing = lacking(channel.clone(), batch, stored_by.as_deref()).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut client = BlobsClient::new(channel);
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
