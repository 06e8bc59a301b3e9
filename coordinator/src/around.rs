//! What stands around the services of a port: it sees every call, its request on the way in and its answer on the way out.
//!
//! Owns: the mechanism, once. Must not: know what is done with a call, which each of those that stand there knows.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// The request of a call.
pub(crate) type Request = http::Request<Body>;
/// The answer of a call.
pub(crate) type Answer = http::Response<Body>;

/// Stands around services; cheap to clone.
pub(crate) trait Around: Clone + Send + Sync + 'static {
    /// What it remembers of a call until it is answered.
    type Call: Send + 'static;

    /// A call was made. Its request goes on as this leaves it.
    ///
    /// # Errors
    /// Why nobody behind is asked.
    fn asked(&self, request: &mut Request) -> Result<Self::Call, Status>;

    /// It is answered so; what it makes of that is sent.
    fn answered(&self, call: Self::Call, answer: Answer) -> impl Future<Output = Answer> + Send;
}

/// Puts it around services.
#[derive(Debug, Clone)]
pub(crate) struct Surround<A>(pub A);

impl<A: Around, S> Layer<S> for Surround<A> {
    type Service = Surrounded<A, S>;

    fn layer(&self, inner: S) -> Surrounded<A, S> {
        Surrounded { around: self.0.clone(), inner }
    }
}

/// The services, with it around them.
#[derive(Debug, Clone)]
pub(crate) struct Surrounded<A, S> {
    around: A,
    inner: S,
}

impl<A, S, B> Service<Request> for Surrounded<A, S>
where
    A: Around,
    S: Service<Request, Response = http::Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let call = match self.around.asked(&mut request) {
            Ok(call) => call,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let (around, answered) = (self.around.clone(), self.inner.call(request));
        Box::pin(async move {
            let answer = answered.await?.map(Body::new);
            Ok(around.answered(call, answer).await)
        })
    }
}

/// Lasts until an answer has been sent whole, or was given up: then it is dropped.
pub(crate) trait UntilSent: Send + Unpin + 'static {
    /// What follows the body of the answer.
    fn trailers(&mut self, _trailers: &HeaderMap) {}
}

/// Ties `lasting` to an answer.
pub(crate) fn until_sent(answer: Answer, lasting: impl UntilSent) -> Answer {
    answer.map(|body| Body::new(Sending { body, lasting: Some(lasting) }))
}

struct Sending<T> {
    body: Body,
    lasting: Option<T>,
}

impl<T: UntilSent> http_body::Body for Sending<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(None) => self.lasting = None,
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(trailers), Some(lasting)) = (frame.trailers_ref(), &mut self.lasting) {
                    lasting.trailers(trailers);
                }
            }
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
