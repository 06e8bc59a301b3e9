//! Putting queues: all of a file in one call, and what is left of it again while a fleet elects another leader.

use flowyard_model::Queue;
use flowyard_proto::api::{PutQueuesRequest, QueueChange};
use tonic::{Code, Status};

use super::{Client, ClientError};

/// What came of putting queues.
#[derive(Debug)]
pub struct Put {
    /// Those that are as they were wished, in the order in which they were put.
    pub changes: Vec<QueueChange>,
    /// The one that was refused after them, and why; the rest was not tried.
    pub refused: Option<(String, ClientError)>,
}

impl Client {
    /// Puts queues, once the cluster has found nothing wrong with any of them. It may be made twice.
    ///
    /// # Errors
    /// Whatever any call can fail with, when nothing was put; [`ClientError::Refused`] for who is no operator.
    pub async fn put_queues(&mut self, queues: &[Queue]) -> Result<Put, ClientError> {
        let mut patience = self.endpoint.patience();
        let mut changes: Vec<QueueChange> = Vec::new();
        loop {
            let done = |queue: &&Queue| changes.iter().any(|change| change.path == queue.path.as_str());
            let left: Vec<&Queue> = queues.iter().filter(|queue| !done(queue)).collect();
            let request = PutQueuesRequest { queues: left.iter().map(|queue| (*queue).into()).collect() };
            let (path, error) = match self.api.put_queues(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    changes.extend(answer.changes);
                    let Some(refused) = answer.refused else { return Ok(Put { changes, refused: None }) };
                    (refused.path, self.sorted(Status::new(Code::from(refused.code), refused.message)))
                }
                Err(status) => {
                    (left.first().map_or_else(String::new, |queue| queue.path.to_string()), self.sorted(status))
                }
            };
            match patience.after(&error) {
                Some(wait) => tokio::time::sleep(wait).await,
                None if changes.is_empty() => return Err(error),
                None => return Ok(Put { changes, refused: Some((path, error)) }),
            }
        }
    }
}
