//! Whom a certificate names, and how it is written: one URI, and nothing else of the certificate is read.
//!
//! `flowyard://CLUSTER/coordinator/3?epoch=1&revision=512`, `.../agent/n1?...`, `.../person/ada/operator?...`, and for a
//! submitter its queues, each as `&queue=research/vision`. There is exactly one text per claim: what does not print as it was
//! read is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use flowyard_model::{Epoch, Identity, Name, QueuePath, ReplicaId, Revision, Role};
use rustls::pki_types::ServerName;

/// Longest text that is looked at.
const URI_BYTES: usize = 32 * 1024;
const SCHEME: &str = "flowyard://";

/// The id of a cluster: a name that also is a label of a domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(Name);

impl ClusterId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The domain name in the certificates of its coordinators, which clients ask for.
    pub fn server_name(&self) -> String {
        format!("coordinator.{}.flowyard", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let id = Self(text.parse().map_err(|_| SubjectError::Cluster)?);
        match ServerName::try_from(id.server_name()) {
            Ok(_) => Ok(id),
            Err(_) => Err(SubjectError::Cluster),
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who someone is, inside a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A coordinator.
    Coordinator {
        /// Its replica of the log.
        replica: ReplicaId,
    },
    /// The agent of a node.
    Agent {
        /// The node's name.
        name: Name,
    },
    /// A person.
    Person {
        /// The name that jobs are owned by.
        name: Name,
        /// What it may do.
        role: Role,
    },
}

impl Subject {
    /// What is shut out when it is revoked.
    pub fn identity(&self) -> Identity {
        match self {
            Self::Coordinator { replica } => Identity::Coordinator(*replica),
            Self::Agent { name } => Identity::Agent(name.clone()),
            Self::Person { name, .. } => Identity::Person(name.clone()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.identity().fmt(f)
    }
}

/// Everything that a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who.
    pub subject: Subject,
    /// The cluster's epoch when it was issued.
    pub epoch: Epoch,
    /// The revision when it was issued: what was shut out at it or later is void.
    pub revision: Revision,
}

/// Why a text names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Not the id of a cluster.
    #[error("the id of a cluster is a name of at most 63 letters, digits and dashes")]
    Cluster,
    /// Not a subject of a cluster.
    #[error("it names no subject of a Flowyard cluster")]
    Malformed,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/", self.cluster)?;
        match &self.subject {
            Subject::Coordinator { replica } => write!(f, "coordinator/{replica}")?,
            Subject::Agent { name } => write!(f, "agent/{name}")?,
            Subject::Person { name, role } => write!(f, "person/{name}/{}", role_word(role))?,
        }
        write!(f, "?epoch={}&revision={}", self.epoch, self.revision)?;
        if let Subject::Person { role: Role::Submitter { queues }, .. } = &self.subject {
            queues.iter().try_for_each(|queue| write!(f, "&queue={queue}"))?;
        }
        Ok(())
    }
}

fn role_word(role: &Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Submitter { .. } => "submitter",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

impl FromStr for Claim {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let claim = parse(text).ok_or(SubjectError::Malformed)?;
        if claim.to_string() == text { Ok(claim) } else { Err(SubjectError::Malformed) }
    }
}

fn parse(text: &str) -> Option<Claim> {
    let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= URI_BYTES)?;
    let (path, query) = rest.split_once('?')?;
    let (cluster, path) = path.split_once('/')?;
    let mut fields = query.split('&');
    let epoch = Epoch(fields.next()?.strip_prefix("epoch=")?.parse().ok()?);
    let revision = Revision(fields.next()?.strip_prefix("revision=")?.parse().ok()?);
    let queues = fields.map(|field| field.strip_prefix("queue=")?.parse().ok()).collect::<Option<BTreeSet<_>>>()?;
    let subject = subject(path, queues)?;
    Some(Claim { cluster: cluster.parse().ok()?, subject, epoch, revision })
}

fn subject(path: &str, queues: BTreeSet<QueuePath>) -> Option<Subject> {
    let mut parts = path.split('/');
    let (kind, name, role) = (parts.next()?, parts.next()?, parts.next());
    match (kind, role, parts.next(), queues.is_empty()) {
        ("coordinator", None, None, true) => Some(Subject::Coordinator { replica: ReplicaId(name.parse().ok()?) }),
        ("agent", None, None, true) => Some(Subject::Agent { name: name.parse().ok()? }),
        ("person", Some(role), None, unbound) => {
            let role = match (role, unbound) {
                ("viewer", true) => Role::Viewer,
                ("submitter", false) => Role::Submitter { queues },
                ("operator", true) => Role::Operator,
                ("admin", true) => Role::Admin,
                _ => return None,
            };
            Some(Subject::Person { name: name.parse().ok()?, role })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(subject: Subject) -> Claim {
        Claim { cluster: "c1".parse().unwrap(), subject, epoch: Epoch(2), revision: Revision(512) }
    }

    #[test]
    fn every_subject_is_read_back_from_its_text() {
        let name: Name = "n1.rack_2".parse().unwrap();
        let queues = ["research/vision", "default"].map(|path| path.parse().unwrap()).into();
        let person = |role| Subject::Person { name: name.clone(), role };
        let subjects = [
            Subject::Coordinator { replica: ReplicaId(3) },
            Subject::Agent { name: name.clone() },
            person(Role::Viewer),
            person(Role::Submitter { queues }),
            person(Role::Operator),
            person(Role::Admin),
        ];
        for subject in subjects {
            let claim = claim(subject);
            assert_eq!(claim.to_string().parse(), Ok(claim.clone()), "{claim}");
        }
        let agent = claim(Subject::Agent { name });
        assert_eq!(agent.to_string(), "flowyard://c1/agent/n1.rack_2?epoch=2&revision=512");
    }

    #[test]
    fn a_text_that_is_not_the_one_of_its_claim_names_nobody() {
        let wrong = [
            "",
            "flowyard://c1/agent/n1",
            "flowyard://c1/agent/n1?epoch=2",
            "flowyard://c1/agent/n1?revision=1&epoch=2",
            "flowyard://c1/agent/n1?epoch=02&revision=1",
            "flowyard://c1/agent/n1?epoch=+2&revision=1",
            "flowyard://c1/agent/n1?epoch=2&revision=1&",
            "flowyard://c1/agent/n1?epoch=2&revision=1&queue=a",
            "flowyard://c1/agent/n1/admin?epoch=2&revision=1",
            "flowyard://c1/agent/../person/eve/admin?epoch=2&revision=1",
            "flowyard://c1/agent/?epoch=2&revision=1",
            "flowyard://c1/Agent/n1?epoch=2&revision=1",
            "flowyard://c1//agent/n1?epoch=2&revision=1",
            "flowyard:///agent/n1?epoch=2&revision=1",
            "flowyard://c1/coordinator/n1?epoch=2&revision=1",
            "flowyard://c1/coordinator/-1?epoch=2&revision=1",
            "flowyard://c1/person/eve?epoch=2&revision=1",
            "flowyard://c1/person/eve/root?epoch=2&revision=1",
            "flowyard://c1/person/eve/submitter?epoch=2&revision=1",
            "flowyard://c1/person/eve/admin?epoch=2&revision=1&queue=a",
            "flowyard://c1/person/eve/submitter?epoch=2&revision=1&queue=b&queue=a",
            "flowyard://c1/person/eve/submitter?epoch=2&revision=1&queue=a&queue=a",
            "https://c1/agent/n1?epoch=2&revision=1",
            " flowyard://c1/agent/n1?epoch=2&revision=1",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Claim>(), Err(SubjectError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_cluster_id_is_a_label_of_a_domain() {
        assert!("0190b5a2-7c1e-7d3a-8a33-1f6f0f7a9f10".parse::<ClusterId>().is_ok());
        for wrong in ["", "a b", "a/b", "-a", "a-", "a..b", &"x".repeat(64)] {
            assert_eq!(wrong.parse::<ClusterId>(), Err(SubjectError::Cluster), "{wrong}");
        }
    }
}
