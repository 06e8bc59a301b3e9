//! Reads that are content with what the coordinator that answers knows, whoever leads: also when nobody does. They are labelled, so
//! that nobody takes them for the truth.

use flowyard_state::View;
use http::HeaderMap;

/// Metadata with which a reader asks for it.
pub const STALE: &str = "flowyard-stale";
/// Metadata of the answer: the revision of the state it is from, or a later one.
pub const REVISION: &str = "flowyard-revision";
/// And when that state was changed last.
pub const CHANGED: &str = "flowyard-changed-ms";

/// Whether a reader asks for it.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.contains_key(STALE)
}

/// Says how old the state was when the answer was begun.
pub(crate) fn label(headers: &mut HeaderMap, view: &View) {
    headers.insert(REVISION, view.revision().0.into());
    headers.insert(CHANGED, view.time().0.into());
}
