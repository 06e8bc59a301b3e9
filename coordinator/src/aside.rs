//! What one coordinator asks of another beside Raft: it comes in at the same port, and is answered on the threads of everything else.
//!
//! Invariant: on the replica's own threads runs what Raft itself waits for, and no call that may take its time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::around::{Answer, Request};

/// The calls that stay.
const RAFT: &str = "/flowyard.peer.v1.Raft/";

/// Takes the other calls aside, to these threads; none if it has none.
#[derive(Debug, Clone)]
pub(crate) struct Aside(pub Option<Handle>);

impl<S> Layer<S> for Aside {
    type Service = TakenAside<S>;

    fn layer(&self, inner: S) -> TakenAside<S> {
        TakenAside { threads: self.0.clone(), inner }
    }
}

/// The services behind it.
#[derive(Debug, Clone)]
pub(crate) struct TakenAside<S> {
    threads: Option<Handle>,
    inner: S,
}

impl<S> Service<Request> for TakenAside<S>
where
    S: Service<Request, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let aside = self.threads.as_ref().filter(|_| !request.uri().path().starts_with(RAFT));
        let Some(threads) = aside else { return Box::pin(self.inner.call(request)) };
        // The one that is ready takes the call; its copy gets ready for the next.
        let copy = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, copy);
        let mut call = JoinSet::new();
        call.spawn_on(async move { ready.call(request).await }, threads);
        // It ends with the call: whoever hangs up is not worked for.
        Box::pin(async move {
            match call.join_next().await {
                Some(Ok(answer)) => answer,
                panicked => {
                    tracing::error!(?panicked, "a call failed");
                    Ok(Status::internal("the call failed in this coordinator").into_http::<Body>())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with the name of its thread.
    #[derive(Clone)]
    struct Named;

    impl Service<Request> for Named {
        type Response = Answer;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request) -> Self::Future {
            assert!(!request.uri().path().ends_with("Broken"), "as it was asked to");
            Box::pin(async {
                let name = std::thread::current().name().unwrap_or_default().to_owned();
                Ok(http::Response::builder().header("thread", name).body(Body::empty()).unwrap())
            })
        }
    }

    #[test]
    fn raft_is_answered_where_it_came_in_and_everything_else_on_other_threads() {
        let runtime = |name: &str| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).thread_name(name).build().unwrap()
        };
        let (raft, others) = (runtime("raft"), runtime("others"));
        let mut service = Aside(Some(others.handle().clone())).layer(Named);
        let mut ask = |path: &'static str| {
            let answered = service.call(http::Request::builder().uri(path).body(Body::empty()).unwrap());
            raft.block_on(raft.spawn(answered)).unwrap().unwrap().headers().clone()
        };
        assert_eq!(ask("/flowyard.peer.v1.Raft/AppendEntries")["thread"], "raft");
        assert_eq!(ask("/flowyard.api.v1.Flowyard/Submit")["thread"], "others");
        assert_eq!(ask("/flowyard.peer.v1.Members/About")["thread"], "others");
        assert_eq!(ask("/flowyard.peer.v1.Members/Broken")["grpc-status"], "13", "a fault is told and stays alone");
    }
}
