//! Tokens that are younger than what this coordinator knows: one that follows hears of a token a moment after its leader gave it out, and whoever
//! uses it at once must not be told that there is none.
//!
//! Must not: judge a token, which is the doorkeeper's.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flowyard_identity::ApiToken;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::around::{Answer, Request};
use crate::caller::BEARER;
use crate::coordinator::Shared;

/// How long a call with an unknown token waits until this coordinator knows what its leader knew when it came.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Lets calls with an unknown token wait until it would be known.
#[derive(Clone)]
pub(crate) struct Fresh(pub Shared);

impl<S> Layer<S> for Fresh {
    type Service = Awaited<S>;

    fn layer(&self, inner: S) -> Awaited<S> {
        Awaited { shared: self.0.clone(), inner }
    }
}

/// The services behind it.
#[derive(Clone)]
pub(crate) struct Awaited<S> {
    shared: Shared,
    inner: S,
}

impl<S> Awaited<S> {
    /// Whether it may be that only this coordinator does not know the token. One that leads was the first to know it.
    fn is_behind(&self, request: &Request) -> bool {
        let shown = request.headers().get(http::header::AUTHORIZATION);
        let text = shown.and_then(|shown| shown.to_str().ok()?.strip_prefix(BEARER));
        let token = text.and_then(|text| text.parse::<ApiToken>().ok());
        token.is_some_and(|token| self.shared.feed.view().token(token.id).is_none())
            && self.shared.leading_term().is_err()
    }
}

impl<S, B> Service<Request> for Awaited<S>
where
    S: Service<Request, Response = http::Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if !self.is_behind(&request) {
            let answered = self.inner.call(request);
            return Box::pin(async move { Ok(answered.await?.map(Body::new)) });
        }
        let copy = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, copy);
        let replica = self.shared.replica.clone();
        Box::pin(async move {
            // If it cannot be known, what is known here has to do.
            let _ = tokio::time::timeout(CATCH_UP, replica.read_barrier()).await;
            Ok(ready.call(request).await?.map(Body::new))
        })
    }
}
