//! A command beside a running attempt.

use flowyard_model::MemberKey;
use flowyard_proto::agent::RelayToAgent;
use flowyard_proto::api::exec_request::Start;
use tonic::Streaming;

use crate::attempt::Desk;
use crate::relay::Outbox;

/// Serves one request until the command has ended.
///
/// # Errors
/// Why the command cannot be run, for the user.
pub(crate) async fn serve(
    _desk: &Desk,
    _member: MemberKey,
    _start: Start,
    _told: Streaming<RelayToAgent>,
    _outbox: &Outbox,
) -> Result<(), String> {
    Err("this agent cannot run commands beside a task".to_owned())
}
