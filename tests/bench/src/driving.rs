//! Clients in closed loops: each makes its next call when the one before was answered.

use std::future::Future;
use std::time::Duration;

use flowyard_model::JobSpec;
use flowyard_sdk::client::Client;

use crate::figures::Times;

/// A client that makes one call after the other.
pub(crate) trait Caller: Send + 'static {
    /// Makes a call that no other has made; how many things it made durable.
    fn call(&mut self) -> impl Future<Output = Result<u64, String>> + Send;
}

/// A client that submits one job after the other.
pub(crate) struct Submits {
    client: Client,
    spec: JobSpec,
}

impl Submits {
    pub(crate) fn new(client: Client, spec: &JobSpec) -> Self {
        Self { client, spec: spec.clone() }
    }
}

impl Caller for Submits {
    async fn call(&mut self) -> Result<u64, String> {
        self.client.submit(&self.spec, None).await.map(|_| 1).map_err(|error| error.to_string())
    }
}

/// What came of it.
pub(crate) struct Driven {
    made: u64,
    took: Duration,
    pub(crate) times: Times,
}

impl Driven {
    pub(crate) fn per_second(&self) -> f64 {
        self.made as f64 / self.took.as_secs_f64()
    }
}

/// Lets all callers call for this long. Each has connected before the time begins.
///
/// # Errors
/// The first call that failed: nothing may fail while nothing is broken.
pub(crate) async fn drive<C: Caller>(callers: Vec<C>, how_long: Duration) -> Result<Driven, String> {
    let mut ready = Vec::new();
    for mut caller in callers {
        caller.call().await?;
        ready.push(caller);
    }
    let start = flowyard_clock::monotonic();
    let tasks: Vec<_> = ready.into_iter().map(|caller| tokio::spawn(one(caller, how_long))).collect();
    let (mut made, mut times) = (0, Vec::new());
    for task in tasks {
        let (more, each) = task.await.map_err(|error| error.to_string())??;
        made += more;
        times.extend(each);
    }
    Ok(Driven { made, took: flowyard_clock::elapsed(start), times: Times::new(times) })
}

async fn one<C: Caller>(mut caller: C, how_long: Duration) -> Result<(u64, Vec<Duration>), String> {
    let start = flowyard_clock::monotonic();
    let (mut made, mut times) = (0, Vec::new());
    while flowyard_clock::elapsed(start) < how_long {
        let begun = flowyard_clock::monotonic();
        made += caller.call().await?;
        times.push(flowyard_clock::elapsed(begun));
    }
    Ok((made, times))
}
