//! How a call that did not succeed says so: refused wishes and unavailability as gRPC statuses, and back.
//!
//! A refusal carries its kind beside the sentence, so that programs need not read the sentence.

use std::time::Duration;

use flowyard_model::Rejection;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::decode::DecodeError;

/// Metadata key with the kind of a refusal.
pub const REJECTION_KEY: &str = "flowyard-rejection";
/// Metadata key with the address of the leader, where it is known.
pub const LEADER_KEY: &str = "flowyard-leader";

/// Metadata key with the milliseconds after which to ask again; gRPC's own.
pub const WAIT_KEY: &str = "grpc-retry-pushback-ms";

/// A refused wish as a status.
pub fn rejected(rejection: &Rejection) -> Status {
    let (code, kind) = code_and_kind(rejection);
    refusal(code, kind, rejection.to_string())
}

fn code_and_kind(rejection: &Rejection) -> (Code, &'static str) {
    match rejection {
        Rejection::UnknownJob { .. } => (Code::NotFound, "unknown_job"),
        Rejection::UnknownNode { .. } => (Code::NotFound, "unknown_node"),
        Rejection::UnknownQueue { .. } => (Code::NotFound, "unknown_queue"),
        Rejection::UnknownAfter { .. } => (Code::NotFound, "unknown_after"),
        Rejection::KeyReused { .. } => (Code::AlreadyExists, "key_reused"),
        Rejection::Invalid { .. } => (Code::InvalidArgument, "invalid"),
        Rejection::QueueInUse { .. } => (Code::FailedPrecondition, "queue_in_use"),
        Rejection::Infeasible { .. } => (Code::FailedPrecondition, "infeasible"),
        Rejection::BadVersion { .. } => (Code::FailedPrecondition, "bad_version"),
        Rejection::UnknownToken { .. } => (Code::NotFound, "unknown_token"),
        Rejection::TokenVoid { .. } => (Code::PermissionDenied, "token_void"),
        Rejection::PastMoved { .. } => (Code::FailedPrecondition, "past_moved"),
        Rejection::NeedsVersion { .. } => (Code::FailedPrecondition, "needs_version"),
        Rejection::NodeInUse { .. } => (Code::FailedPrecondition, "node_in_use"),
        Rejection::NodeOpen { .. } => (Code::FailedPrecondition, "node_open"),
        Rejection::NodeNameTaken { .. } => (Code::FailedPrecondition, "node_name_taken"),
    }
}

fn refusal(code: Code, kind: &'static str, sentence: String) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(REJECTION_KEY, MetadataValue::from_static(kind));
    Status::with_metadata(code, sentence, metadata)
}

/// The kind of the refusal of a job that names blobs which its submitter has to upload first.
pub const NOT_STORED: &str = "not_stored";

/// Blobs have to be uploaded, or uploaded again: who has their bytes can mend it.
pub fn not_stored(sentence: String) -> Status {
    refusal(Code::FailedPrecondition, NOT_STORED, sentence)
}

impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Self {
        refusal(Code::InvalidArgument, "invalid", error.to_string())
    }
}

/// The kind of refusal that a status carries; `None` if it is none.
pub fn rejection_kind(status: &Status) -> Option<&str> {
    status.metadata().get(REJECTION_KEY)?.to_str().ok()
}

/// Try again, here or at the leader, whose address is told where it is known and can be written in a header.
pub fn unavailable(sentence: &str, leader: Option<&str>) -> Status {
    let mut metadata = MetadataMap::new();
    if let Some(leader) = leader.and_then(|leader| leader.parse().ok()) {
        metadata.insert(LEADER_KEY, leader);
    }
    Status::with_metadata(Code::Unavailable, sentence, metadata)
}

/// Not now: to be asked again after a time, and not before.
pub fn ask_again(code: Code, sentence: &str, wait: Duration) -> Status {
    let mut metadata = MetadataMap::new();
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    metadata.insert(WAIT_KEY, MetadataValue::from(wait_ms));
    Status::with_metadata(code, format!("{sentence}; ask again after {wait_ms}ms"), metadata)
}

/// How long to wait before asking again, where that was told.
pub fn wait_asked_for(status: &Status) -> Option<Duration> {
    let wait_ms = status.metadata().get(WAIT_KEY)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(wait_ms))
}

/// The address of the leader that an unavailable replica told.
pub fn leader_hint(status: &Status) -> Option<&str> {
    status.metadata().get(LEADER_KEY)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Problem;

    #[test]
    fn a_refusal_keeps_its_sentence_and_tells_its_kind() {
        let rejection = Rejection::KeyReused { key: "nightly".into(), job: flowyard_model::JobId(7) };
        let status = rejected(&rejection);
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(status.message(), rejection.to_string());
        assert_eq!(rejection_kind(&status), Some("key_reused"));
    }

    #[test]
    fn a_decode_error_names_the_field_to_the_client() {
        let error = DecodeError { path: "steps[3].size".into(), problem: Problem::Missing };
        let status = Status::from(error);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "steps[3].size: missing"));
        assert_eq!(rejection_kind(&status), Some("invalid"));
    }

    #[test]
    fn who_is_to_ask_again_is_told_after_what_time() {
        let status = ask_again(Code::ResourceExhausted, "too many", Duration::from_micros(250_500));
        assert_eq!(status.message(), "too many; ask again after 250ms");
        assert_eq!(wait_asked_for(&status), Some(Duration::from_millis(250)));
        assert_eq!(wait_asked_for(&unavailable("no leader yet", None)), None);
    }

    #[test]
    fn unavailability_is_no_refusal_and_survives_a_strange_address() {
        let status = unavailable("no leader yet", Some("10.0.0.2:7700"));
        assert_eq!((status.code(), leader_hint(&status)), (Code::Unavailable, Some("10.0.0.2:7700")));
        assert_eq!(rejection_kind(&status), None);
        assert_eq!(leader_hint(&unavailable("no leader yet", Some("a\nb"))), None);
    }
}
