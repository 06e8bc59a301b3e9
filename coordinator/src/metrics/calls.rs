//! Calls of all services, counted by call and by what was answered: a layer around everything else, so that refusals count too.
//!
//! Invariant: a call that no service has is counted as `other`, so that nobody can make figures up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use flowyard_telemetry::Distribution;
use flowyard_telemetry::distribution::SHORT;
use http::HeaderMap;
use prost::Message;
use tonic::{Code, Status};

use super::counts::Count;
use crate::around::{Answer, Around, Request, UntilSent, until_sent};

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
pub(crate) struct Call {
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

impl Around for Calls {
    type Call = (Open, Instant);

    fn asked(&self, request: &mut Request) -> Result<Self::Call, Status> {
        Ok((Open::begin(self.of(request.uri().path())), flowyard_clock::monotonic()))
    }

    async fn answered(&self, (mut open, start): Self::Call, answer: Answer) -> Answer {
        open.call.seconds.observe_since(start);
        open.trailers(answer.headers());
        until_sent(answer, open)
    }
}

/// A call whose answer is not at its end yet; counted when it is dropped.
pub(crate) struct Open {
    call: Arc<Call>,
    code: Code,
}

impl Open {
    fn begin(call: Arc<Call>) -> Self {
        call.open.fetch_add(1, Ordering::Relaxed);
        // What ends without a word was given up by its caller.
        Self { call, code: Code::Cancelled }
    }
}

impl UntilSent for Open {
    /// A status stands in the head of an answer without a body, else behind the body.
    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(trailers) {
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
