//! `fctl cluster check`: whether any one coordinator may be stopped now. Asked between two coordinators of an upgrade.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use flowyard_coordinator::raft::PROMOTE_LAG_MAX;
use flowyard_proto::cluster::{ClusterStatus, GetStatusRequest, MemberStatus};
use flowyard_sdk::client::ClientError;
use serde_json::json;

use super::Outcome;
use crate::asking::asking;
use crate::cli::Global;
use crate::cli::fleet::ClusterCheck;
use crate::failure::{Failure, codes};
use crate::{output, text};

/// Between two looks while it is waited for.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn run(global: &Global, check: &ClusterCheck) -> Outcome {
    let begun_ms = flowyard_clock::boot_ms();
    loop {
        let failure = match asking(global, async |client| Ok(client.get_status(GetStatusRequest {}).await?)).await {
            Ok(status) => match against(&status) {
                lines if lines.is_empty() => return Ok(well(&status)),
                lines => {
                    let told = format!("no coordinator should be stopped now: {}", lines.join("; "));
                    Failure::Client(ClientError::Refused(told))
                }
            },
            // They may be about to choose their leader.
            Err(failure) if failure.code() == codes::NO_CLUSTER => failure,
            Err(failure) => return Err(failure),
        };
        let waited_ms = flowyard_clock::boot_ms().saturating_sub(begun_ms);
        if check.wait.is_none_or(|wait_ms| waited_ms >= wait_ms) {
            return Err(failure);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What stands against stopping any one coordinator; each line says whose turn it is.
fn against(status: &ClusterStatus) -> Vec<String> {
    let mut lines: Vec<String> = status.members.iter().filter_map(of_member).collect();
    let voters = status.members.iter().filter(|member| member.votes).count();
    if voters < 3 {
        let voters = text::count(voters as u64, "voter");
        lines.push(format!(
            "{voters}: stopping one stops the cluster; add one with `fctl token create --role coordinator`"
        ));
    }
    lines
}

fn of_member(member: &MemberStatus) -> Option<String> {
    let number = member.replica;
    let Some(about) = &member.about else { return Some(format!("coordinator {number} does not answer")) };
    match member.lag_entries {
        Some(lag) if lag > PROMOTE_LAG_MAX => return Some(format!("coordinator {number} is {lag} entries behind")),
        None if !member.leads => return Some(format!("it is not known how far coordinator {number} is behind")),
        _ => {}
    }
    if about.wants_vote && !member.votes {
        return Some(format!("coordinator {number} does not vote yet"));
    }
    about.copied_for.is_empty().then(|| format!("coordinator {number} has not copied all stored blobs yet"))
}

/// Says that all is well, and how far an upgrade has come.
fn well(status: &ClusterStatus) -> ExitCode {
    let abouts = status.members.iter().filter_map(|member| member.about.as_ref());
    let releases: BTreeSet<&str> = abouts.map(|about| about.version.as_str()).collect();
    if output::is_json() {
        output::json(&json!({ "fit": true, "version": status.cluster_version, "releases": releases }));
        return ExitCode::SUCCESS;
    }
    output::line(format!("any one of {} may be stopped", text::count(status.members.len() as u64, "coordinator")));
    output::note(stage(status));
    ExitCode::SUCCESS
}

/// The cluster's version, and what is known of the next one.
fn stage(status: &ClusterStatus) -> String {
    let now = status.cluster_version;
    let abouts = || status.members.iter().filter_map(|member| Some((member.replica, member.about.as_ref()?)));
    let newest = abouts().map(|(_, about)| about.newest_version).max().unwrap_or(now);
    if newest <= now {
        return format!("cluster version {now}, the newest that all of them know");
    }
    let behind: Vec<String> = abouts()
        .filter(|(_, about)| about.newest_version < newest)
        .map(|(replica, about)| format!("coordinator {replica} (release {})", text::harmless(&about.version)))
        .collect();
    match behind.is_empty() {
        true => format!("cluster version {now}; version {newest} follows"),
        false => format!("cluster version {now}; version {newest} follows once these agree: {}", behind.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use flowyard_proto::peer::AboutResponse;

    use super::*;

    fn about(newest_version: u32) -> AboutResponse {
        let version = if newest_version == 2 { "0.1.0" } else { "0.2.0" }.to_owned();
        AboutResponse {
            version,
            newest_version,
            wants_vote: true,
            copied_for: vec![1, 2, 3],
            ..AboutResponse::default()
        }
    }

    fn three() -> ClusterStatus {
        let member = |replica| MemberStatus {
            replica,
            votes: true,
            leads: replica == 1,
            lag_entries: Some(0),
            about: Some(about(2)),
            ..MemberStatus::default()
        };
        ClusterStatus { members: vec![member(1), member(2), member(3)], cluster_version: 2, ..ClusterStatus::default() }
    }

    /// What is said once one member is otherwise.
    fn with(change: impl FnOnce(&mut MemberStatus)) -> Vec<String> {
        let mut status = three();
        change(&mut status.members[2]);
        against(&status)
    }

    #[test]
    fn three_that_are_well_may_lose_one() {
        assert_eq!(against(&three()), Vec::<String>::new());
    }

    #[test]
    fn whatever_makes_stopping_one_dangerous_is_said() {
        assert_eq!(with(|member| member.about = None), ["coordinator 3 does not answer"]);
        assert_eq!(with(|member| member.lag_entries = Some(5_000)), ["coordinator 3 is 5000 entries behind"]);
        assert_eq!(with(|member| member.lag_entries = None), ["it is not known how far coordinator 3 is behind"]);
        let uncopied = with(|member| member.about.as_mut().unwrap().copied_for.clear());
        assert_eq!(uncopied, ["coordinator 3 has not copied all stored blobs yet"]);
        let learns = with(|member| member.votes = false);
        assert_eq!(learns[0], "coordinator 3 does not vote yet");
        assert!(learns[1].starts_with("2 voters: stopping one stops the cluster"), "{learns:?}");
    }

    #[test]
    fn how_far_an_upgrade_has_come_is_said() {
        let mut status = three();
        assert_eq!(stage(&status), "cluster version 2, the newest that all of them know");
        status.members[0].about = Some(about(3));
        status.members[1].about = Some(about(3));
        assert_eq!(
            stage(&status),
            "cluster version 2; version 3 follows once these agree: coordinator 3 (release 0.1.0)"
        );
        status.members[2].about = Some(about(3));
        assert_eq!(stage(&status), "cluster version 2; version 3 follows");
    }
}
