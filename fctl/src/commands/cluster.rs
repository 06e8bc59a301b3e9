//! `fctl cluster`: the coordinators, and who they are.

use std::process::ExitCode;

use flowyard_proto::cluster::{
    ClusterStatus, GetStatusRequest, MemberStatus, PromoteRequest, RemoveMemberRequest, RevokeRequest,
    TransferLeaderRequest,
};
use flowyard_proto::peer::{self, identity};
use serde_json::{Value, json};

use super::{Outcome, cluster_check, log_segments};
use crate::asking::asking;
use crate::cli::Global;
use crate::cli::fleet::Cluster;
use crate::failure::Failure;
use crate::table::{Cell, Table, Tone, cell, toned};
use crate::{output, text};

pub(super) async fn run(global: &Global, command: Cluster) -> Outcome {
    match command {
        Cluster::Status => return status(global).await,
        Cluster::Check(check) => return cluster_check::run(global, &check).await,
        Cluster::LogSegments => return log_segments::run(global).await,
        Cluster::Promote(one) => {
            let request = PromoteRequest { replica: one.member };
            asking(global, async |client| Ok(client.promote(request).await?)).await?;
            done(&format!("coordinator {} votes", one.member), json!({ "coordinator": one.member, "votes": true }));
        }
        Cluster::Remove(one) => {
            let request = RemoveMemberRequest { replica: one.member };
            asking(global, async |client| Ok(client.remove_member(request).await?)).await?;
            let said = format!("coordinator {} is out, for good; stop it and remove its folder", one.member);
            done(&said, json!({ "coordinator": one.member, "removed": true }));
        }
        Cluster::TransferLeader(one) => hand_over(global, Some(one.member)).await?,
        Cluster::StepDown => hand_over(global, None).await?,
        Cluster::Backup(backup) => super::backup::make(global, &backup).await?,
        Cluster::VerifyBackup(check) => super::backup::check(&check.file).await?,
        Cluster::Revoke(revoke) => {
            let identity = whom(&revoke.who)?;
            asking(global, async |client| Ok(client.revoke(RevokeRequest { identity: Some(identity) }).await?)).await?;
            done(&format!("{} is shut out", revoke.who), json!({ "revoked": revoke.who }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn done(said: &str, answer: Value) {
    match output::is_json() {
        true => output::json(&answer),
        false => output::line(said),
    }
}

async fn hand_over(global: &Global, replica: Option<u64>) -> Result<(), Failure> {
    let answer =
        asking(global, async |client| Ok(client.transfer_leader(TransferLeaderRequest { replica }).await?)).await?;
    done(&format!("coordinator {} leads", answer.leader), json!({ "leader": answer.leader }));
    Ok(())
}

fn whom(text: &str) -> Result<peer::Identity, Failure> {
    let wrong =
        || Failure::Usage(format!("`{}` is nobody; write agent/NAME or coordinator/NUMBER", text::harmless(text)));
    let kind = match text.split_once('/').ok_or_else(wrong)? {
        ("agent", name) if !name.is_empty() => identity::Kind::Agent(name.to_owned()),
        ("coordinator", number) => identity::Kind::Coordinator(number.parse().map_err(|_| wrong())?),
        _ => return Err(wrong()),
    };
    Ok(peer::Identity { kind: Some(kind) })
}

async fn status(global: &Global) -> Outcome {
    let status = asking(global, async |client| Ok(client.get_status(GetStatusRequest {}).await?)).await?;
    if output::is_json() {
        output::json(&as_json(&status));
        return Ok(ExitCode::SUCCESS);
    }
    let name = if status.name.is_empty() { "of this machine".to_owned() } else { text::harmless(&status.name) };
    output::line(format!(
        "cluster {name}  id {}  epoch {}  version {}  term {}  revision {}",
        status.cluster, status.epoch, status.cluster_version, status.term, status.revision
    ));
    let mut table = Table::new([
        "COORDINATOR",
        "ROLE",
        "ADDRESS",
        "LAG",
        "LAST HEARD",
        "RELEASE",
        "CERTIFICATE",
        "LOG",
        "DISK FREE",
    ]);
    for member in &status.members {
        table.row(row(member));
    }
    table.print();
    for line in warnings(&status) {
        output::note(line);
    }
    Ok(ExitCode::SUCCESS)
}

fn row(member: &MemberStatus) -> [Cell; 9] {
    let role = match (member.leads, member.votes) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    let unknown = || toned("?", Tone::Faint);
    let about = member.about.as_ref();
    let said = |shown: fn(&peer::AboutResponse) -> String| about.map_or_else(unknown, |about| cell(shown(about)));
    [
        cell(member.replica.to_string()),
        cell(role),
        cell(text::harmless(&member.api_address)),
        member.lag_entries.map_or_else(unknown, |lag| cell(lag.to_string())),
        member.silent_ms.map_or_else(|| cell("-"), |silent| cell(text::duration(silent))),
        said(|about| text::harmless(&about.version)),
        said(|about| match about.certificate_expires_at_ms.checked_sub(flowyard_clock::wall_ms()) {
            Some(left) => format!("{} left", text::duration(left)),
            None if about.certificate_expires_at_ms == 0 => "-".to_owned(),
            None => "expired".to_owned(),
        }),
        said(|about| text::size(about.log_bytes + about.snapshot_bytes)),
        said(|about| format!("{} of {}", text::size(about.disk_free_bytes), text::size(about.disk_bytes))),
    ]
}

/// What an operator should do something about.
fn warnings(status: &ClusterStatus) -> Vec<String> {
    let mut lines = Vec::new();
    let voters = status.members.iter().filter(|member| member.votes).count();
    let away: Vec<_> = status.members.iter().filter(|member| member.about.is_none()).collect();
    let votes_away = away.iter().filter(|member| member.votes).count();
    for member in &away {
        lines.push(format!("coordinator {} does not answer", member.replica));
    }
    let spare = (voters.saturating_sub(1) / 2).saturating_sub(votes_away);
    if voters < 3 {
        lines.push(format!(
            "{}: losing one stops the cluster; add {} with `fctl token create --role coordinator`",
            text::count(voters as u64, "voter"),
            3 - voters
        ));
    } else if spare == 0 {
        lines.push("losing one more coordinator stops the cluster".to_owned());
    }
    lines
}

pub(super) fn as_json(status: &ClusterStatus) -> Value {
    let members = status.members.iter().map(|member| {
        let about = member.about.as_ref().map(|about| {
            json!({
                "release": about.version, "newest_version": about.newest_version, "applied": about.applied,
                "certificate_expires_at_ms": about.certificate_expires_at_ms, "disk_bytes": about.disk_bytes,
                "disk_free_bytes": about.disk_free_bytes, "log_bytes": about.log_bytes,
                "snapshot_bytes": about.snapshot_bytes, "engine": about.engine,
            })
        });
        json!({
            "coordinator": member.replica, "address": member.api_address, "peer_address": member.peer_address,
            "votes": member.votes, "leads": member.leads, "lag_entries": member.lag_entries,
            "silent_ms": member.silent_ms, "about": about,
        })
    });
    json!({
        "cluster": status.cluster, "name": status.name, "epoch": status.epoch, "version": status.cluster_version,
        "term": status.term, "revision": status.revision, "answered_by": status.answered_by,
        "members": members.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_shut_out_is_named_by_kind() {
        assert_eq!(whom("agent/n1").unwrap().kind, Some(identity::Kind::Agent("n1".to_owned())));
        assert_eq!(whom("coordinator/3").unwrap().kind, Some(identity::Kind::Coordinator(3)));
        for wrong in ["n1", "agent/", "coordinator/x", "person/ann", ""] {
            assert!(whom(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_would_stop_the_cluster_is_said() {
        let member = |replica, answers: bool| MemberStatus {
            replica,
            votes: true,
            about: answers.then(Default::default),
            ..MemberStatus::default()
        };
        let status = |members| ClusterStatus { members, ..ClusterStatus::default() };
        assert!(warnings(&status(vec![member(1, true), member(2, true), member(3, true)])).is_empty());
        let one_away = warnings(&status(vec![member(1, true), member(2, true), member(3, false)]));
        assert_eq!(one_away, ["coordinator 3 does not answer", "losing one more coordinator stops the cluster"]);
        assert!(
            warnings(&status(vec![member(1, true)]))[0].starts_with("1 voter: losing one stops the cluster; add 2")
        );
    }
}
