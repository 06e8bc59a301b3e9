//! Calls of all services, counted by call and by what was answered: a layer around everything else, so that refusals count too.
//!
//! Invariant: a call that no service has is counted as `other`, so that nobody can make figures up.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use flowyard_telemetry::Distribution;
use flowyard_telemetry::distribution::SHORT;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::counts::Count;

/// Every code there is, in the order of their numbers.
pub(super) const CODES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// One call of one service.
#[derive(Debug)]
pub(super) struct Call {
    /// From the request's head to the answer's.
    pub seconds: Distribution,
    /// Whose answer is not at its end.
    pub open: AtomicI64,
    /// By what was answered.
    pub codes: [Count; CODES.len()],
}

impl Call {
    fn new() -> Self {
        Self { seconds: Distribution::new(SHORT), open: AtomicI64::new(0), codes: Default::default() }
    }

    pub(super) fn used(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0 || self.codes.iter().any(|count| count.get() > 0)
    }
}

/// All calls; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    /// By path. What no service has is under the empty path.
    known: Arc<BTreeMap<String, Arc<Call>>>,
}

impl Calls {
    /// The calls that the services of this build have.
    pub(crate) fn of_this_build() -> Self {
        let files = prost_types::FileDescriptorSet::decode(flowyard_proto::DESCRIPTORS)
            .unwrap_or_else(|error| panic!("the descriptors of this build are whole: {error}"));
        let mut known = BTreeMap::from([(String::new(), Arc::new(Call::new()))]);
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    known.insert(path, Arc::new(Call::new()));
                }
            }
        }
        Self { known: Arc::new(known) }
    }

    fn of(&self, path: &str) -> Arc<Call> {
        self.known.get(path).unwrap_or_else(|| &self.known[""]).clone()
    }

    /// Those that were made, by name: `Flowyard/Submit`.
    pub(super) fn used(&self) -> impl Iterator<Item = (String, &Call)> {
        let used = self.known.iter().filter(|(_, call)| call.used());
        used.map(|(path, call)| match path.rsplit_once('.') {
            Some((_, name)) => (name.to_owned(), &**call),
            None => ("other".to_owned(), &**call),
        })
    }
}

/// Counts what the services behind it answer.
#[derive(Clone)]
pub(crate) struct Measured {
    pub calls: Calls,
}

impl<S> Layer<S> for Measured {
    type Service = Measuring<S>;

    fn layer(&self, inner: S) -> Measuring<S> {
        Measuring { calls: self.calls.clone(), inner }
    }
}

/// The services.
#[derive(Clone)]
pub(crate) struct Measuring<S> {
    calls: Calls,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Measuring<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = self.calls.of(request.uri().path());
        let mut open = Open::begin(call);
        let start = flowyard_clock::monotonic();
        let answered = self.inner.call(request);
        Box::pin(async move {
            let answer = answered.await?;
            open.call.seconds.observe_since(start);
            open.heard(answer.headers());
            Ok(answer.map(|body| Body::new(Answering { body, open })))
        })
    }
}

/// A call whose answer is not at its end yet; counted when it is dropped.
struct Open {
    call: Arc<Call>,
    code: Code,
}

impl Open {
    fn begin(call: Arc<Call>) -> Self {
        call.open.fetch_add(1, Ordering::Relaxed);
        // What ends without a word was given up by its caller.
        Self { call, code: Code::Cancelled }
    }

    /// A status stands in the head of an answer without a body, else behind the body.
    fn heard(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.call.open.fetch_sub(1, Ordering::Relaxed);
        self.call.codes[self.code as usize].add(1);
    }
}

struct Answering {
    body: Body,
    open: Open,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.open.heard(trailers);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_no_service_has_are_counted_together() {
        let calls = Calls::of_this_build();
        drop(Open::begin(calls.of("/flowyard.api.v1.Flowyard/Submit")));
        for made_up in ["/x", "/flowyard.api.v1.Flowyard/Nonsense", ""] {
            drop(Open::begin(calls.of(made_up)));
        }
        let used: Vec<_> = calls.used().map(|(name, call)| (name, call.codes[1].get())).collect();
        assert_eq!(used, [("other".to_owned(), 3), ("Flowyard/Submit".to_owned(), 1)]);
    }

    #[test]
    fn codes_have_their_own_names() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from_i32(number as i32);
            let plain: String = name.chars().filter(|letter| *letter != '_').collect();
            assert_eq!(format!("{code:?}").to_lowercase(), plain);
        }
    }
}
