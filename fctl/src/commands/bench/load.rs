//! Submitting a workload as it arrives, and waiting until all of it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flowyard_model::{JobSpec, Name, limits};
use flowyard_proto::api::{JobPhase, ListJobsRequest};
use flowyard_sdk::client::{Client, ClientError};
use tokio::task::JoinSet;

use super::workload::{Arrival, Workload};
use crate::failure::Failure;

/// Calls under way at a time.
const CALLS: usize = 4;
/// How often it is asked whether all has ended.
const LOOK: Duration = Duration::from_millis(250);

/// Who submits what.
pub(super) struct Load<'a> {
    pub run: &'a Name,
    /// By which the jobs are found again.
    pub tag: &'a Name,
    pub retries: u32,
    /// By the user of an arrival; of those that name none, too.
    pub clients: BTreeMap<Option<Name>, Client>,
    /// Tasks that the cluster has taken so far.
    pub taken: Arc<AtomicU64>,
    /// How long nobody may be there to take anything.
    pub patience: Duration,
}

/// What the cluster has taken: how many tasks each job has.
pub(super) type Jobs = BTreeMap<u64, u32>;

/// A job that is to be submitted, and its tasks.
type Wish = (JobSpec, String, u32);

impl Load<'_> {
    /// Submits everything at its time.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) async fn submit(&self, workload: &Workload) -> Result<Jobs, Failure> {
        let start = flowyard_clock::monotonic();
        let (mut jobs, mut calls) = (Jobs::new(), JoinSet::new());
        let mut batch: (Option<Name>, Vec<Wish>) = (None, Vec::new());
        let mut arrivals = workload.arrivals().peekable();
        let mut number = 0;
        while let Some(arrival) = arrivals.next() {
            let early = Duration::from_millis(arrival.at_ms).saturating_sub(flowyard_clock::elapsed(start));
            if !early.is_zero() {
                tokio::time::sleep(early).await;
            }
            batch.0.clone_from(&arrival.user);
            batch.1.push((
                arrival.job(self.run, self.tag, self.retries)?,
                format!("{}-{number}", self.tag),
                arrival.count,
            ));
            number += 1;
            if batch.1.len() < limits::JOBS_PER_BATCH && arrivals.peek().is_some_and(|next| goes_along(&arrival, next))
            {
                continue;
            }
            while calls.len() >= CALLS {
                self.note(&mut jobs, calls.join_next().await)?;
            }
            let client = self.clients.get(&batch.0).or_else(|| self.clients.get(&None)).cloned();
            let client = client.ok_or_else(|| Failure::Internal("nobody submits".to_owned()))?;
            calls.spawn(send(client, std::mem::take(&mut batch.1), self.patience));
        }
        while !calls.is_empty() {
            self.note(&mut jobs, calls.join_next().await)?;
        }
        Ok(jobs)
    }

    fn note(&self, jobs: &mut Jobs, answered: Option<Result<Taken, tokio::task::JoinError>>) -> Result<(), Failure> {
        let Some(answered) = answered else { return Ok(()) };
        let taken = answered.map_err(|panic| Failure::Internal(panic.to_string()))??;
        let tasks: u64 = taken.iter().map(|(_, count)| u64::from(*count)).sum();
        jobs.extend(taken);
        self.taken.fetch_add(tasks, Ordering::Relaxed);
        Ok(())
    }
}

/// Jobs that were taken with their numbers of tasks, or why they were not.
type Taken = Result<Vec<(u64, u32)>, ClientError>;

/// Whether the next one is sent in the same call.
fn goes_along(arrival: &Arrival, next: &Arrival) -> bool {
    next.at_ms == arrival.at_ms && next.user == arrival.user
}

/// Sends some jobs, again while nobody can take them: their keys make each of them one job.
async fn send(mut client: Client, wishes: Vec<Wish>, patience: Duration) -> Result<Vec<(u64, u32)>, ClientError> {
    let start = flowyard_clock::monotonic();
    loop {
        let batch = wishes.iter().map(|(spec, key, _)| (spec.clone(), Some(key.clone())));
        let answers = client.submit_batch(batch).await;
        match answers.and_then(|answers| answers.into_iter().collect::<Result<Vec<_>, _>>()) {
            Ok(taken) => return Ok(taken.into_iter().zip(&wishes).map(|((job, _), wish)| (job.0, wish.2)).collect()),
            Err(error) if error.is_unavailable() && flowyard_clock::elapsed(start) < patience => {
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Jobs of the run that have not ended, at most so many.
pub(super) async fn active(client: &mut Client, run: &Name, limit: u32) -> Result<Vec<u64>, ClientError> {
    let states = vec![JobPhase::Active.into()];
    let asked = ListJobsRequest { states, tags: vec![run.to_string()], limit, ..ListJobsRequest::default() };
    Ok(client.list_jobs(asked).await?.jobs.into_iter().map(|row| row.job).collect())
}

/// Waits until no job of the run is active, also through elections.
pub(super) async fn until_ended(client: &mut Client, run: &Name, patience: Duration) -> Result<(), Failure> {
    let mut answered = flowyard_clock::monotonic();
    loop {
        match active(client, run, 1).await {
            Ok(jobs) if jobs.is_empty() => return Ok(()),
            Ok(_) => answered = flowyard_clock::monotonic(),
            Err(error) if error.is_unavailable() && flowyard_clock::elapsed(answered) < patience => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    }
}
