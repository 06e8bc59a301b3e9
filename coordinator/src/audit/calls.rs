//! Which calls are written down, and how: a layer around the services of a port.
//!
//! A call is written down by the coordinator that answers it. What it is about is said by whoever reads the request.

use std::net::IpAddr;

use tonic::{Code, Status};

use super::{Audit, Entry};
use crate::access::Caller;
use crate::around::{Answer, Around, Request};
use crate::standing::Standing;

/// Calls that only look, and those by which nodes do their daily work, which is in the log.
const UNWRITTEN: [&str; 28] = [
    "Flowyard/GetCluster",
    "Flowyard/ListJobs",
    "Flowyard/GetJob",
    "Flowyard/ListTasks",
    "Flowyard/WatchJob",
    "Flowyard/Logs",
    "Flowyard/Why",
    "Flowyard/DryRun",
    "Flowyard/ListNodes",
    "Flowyard/ListArtifacts",
    "Flowyard/GetStorage",
    "Flowyard/ListQueues",
    "Flowyard/GetQueue",
    "Flowyard/GetUsage",
    "Flowyard/GetPolicy",
    "Administration/ListTokens",
    "Administration/GetStatus",
    "Administration/ReadAudit",
    "Administration/Diagnose",
    "Secrets/List",
    "Blobs/Missing",
    "Blobs/Get",
    "Agents/Relay",
    "Members/About",
    "Members/KeepKeys",
    "Members/ReadAudit",
    "Members/Diagnose",
    "Health/Check",
];

/// Nodes do it all day.
const UPLOAD: &str = "Blobs/Put";

/// The call of a path, if it is written down even when it succeeds: `Flowyard/Submit`.
fn call(path: &str) -> (&str, bool) {
    let call = path.rsplit_once('.').map_or(path, |(_, call)| call).trim_start_matches('/');
    let replicas = path.contains(".Raft/");
    (call, !replicas && !UNWRITTEN.contains(&call) && !path.starts_with("/grpc."))
}

/// What an entry says of who called.
pub(crate) fn entry_of(standing: &Standing, path: &str, refused: Option<&Status>) -> Entry {
    let role = match &standing.caller {
        Caller::Owner { .. } => "owner",
        Caller::Person { role, .. } => match role {
            flowyard_model::Role::Viewer => "viewer",
            flowyard_model::Role::Submitter { .. } => "submitter",
            flowyard_model::Role::Operator => "operator",
            flowyard_model::Role::Admin => "admin",
        },
        Caller::Agent { .. } => "agent",
        Caller::Coordinator { .. } => "coordinator",
        Caller::Lapsed { .. } => "lapsed",
        Caller::Nobody => "nobody",
    };
    Entry {
        at_ms: flowyard_clock::wall_ms(),
        caller: standing.caller.principal(),
        role: role.to_owned(),
        address: standing.address.clone(),
        action: call(path).0.to_owned(),
        object: standing.object(),
        result: refused.map_or_else(|| "ok".to_owned(), |status| format!("{:?}: {}", status.code(), status.message())),
    }
}

impl Entry {
    /// What an entry says of somebody who was refused before anything was known of them.
    pub(crate) fn of_stranger(address: IpAddr, path: &str, refused: &Status) -> Self {
        Self {
            at_ms: flowyard_clock::wall_ms(),
            caller: Caller::Nobody.principal(),
            role: "nobody".to_owned(),
            address: address.to_string(),
            action: call(path).0.to_owned(),
            object: String::new(),
            result: format!("{:?}: {}", refused.code(), refused.message()),
        }
    }
}

/// Writes down what the services behind it answer.
impl Around for Audit {
    /// Who called, if that is known, and what.
    type Call = Option<(Standing, String)>;

    fn asked(&self, request: &mut Request) -> Result<Self::Call, Status> {
        let standing = request.extensions().get::<Standing>().cloned();
        Ok(standing.map(|standing| (standing, request.uri().path().to_owned())))
    }

    async fn answered(&self, asked: Self::Call, answer: Answer) -> Answer {
        let Some((standing, path)) = asked else { return answer };
        let refused = Status::from_header_map(answer.headers()).filter(|status| status.code() != Code::Ok);
        let denied = refused
            .as_ref()
            .is_some_and(|status| matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated));
        let (name, written) = call(&path);
        let daily = name == UPLOAD && matches!(standing.caller, Caller::Agent { .. } | Caller::Coordinator { .. });
        if denied || written && !daily {
            self.write(entry_of(&standing, &path, refused.as_ref()));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;

    #[test]
    fn whatever_changes_something_is_written_down() {
        let files = prost_types::FileDescriptorSet::decode(flowyard_proto::DESCRIPTORS).unwrap();
        let services = files.file.iter().flat_map(|file| file.service.iter().map(move |it| (file.package(), it)));
        let written: BTreeSet<String> = services
            .flat_map(|(package, service)| {
                service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
            })
            .filter(|path| call(path).1)
            .map(|path| call(&path).0.to_owned())
            .collect();
        let expected = [
            "Administration/Backup",
            "Administration/CreateToken",
            "Administration/Promote",
            "Administration/RemoveMember",
            "Administration/Revoke",
            "Administration/RevokeToken",
            "Administration/TransferLeader",
            "Agents/Secrets",
            "Agents/Session",
            "Blobs/Put",
            "Entrance/Join",
            "Entrance/Renew",
            "Flowyard/Cancel",
            "Flowyard/ChangeNode",
            "Flowyard/DropQueue",
            "Flowyard/Exec",
            "Flowyard/Prune",
            "Flowyard/PutPolicy",
            "Flowyard/PutQueues",
            "Flowyard/Submit",
            "Flowyard/SubmitBatch",
            "Secrets/Put",
            "Secrets/Remove",
            "Secrets/RotateKey",
        ];
        // A new call is written down unless it is said above that it need not be.
        let missing: Vec<_> = expected.iter().filter(|call| !written.contains(**call)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let unexpected: Vec<_> = written.iter().filter(|call| !expected.contains(&call.as_str())).collect();
        assert!(unexpected.is_empty(), "{unexpected:?} are written down; add them here");
    }
}
