//! Three members of etcd on loopback, at its defaults, each with certificates: clients and members show theirs to each other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::etcd_client::EtcdClient;
use crate::processes::{PATIENCE, Process, free_address};

pub(crate) const MEMBERS: usize = 3;

/// The members, and what their clients need.
pub(crate) struct Etcd {
    folder: PathBuf,
    clients: Vec<String>,
    peers: Vec<String>,
    members: Vec<Option<Process>>,
    tls: Arc<rustls::ClientConfig>,
}

impl Etcd {
    /// Forms a cluster in the folder.
    pub(crate) async fn form(folder: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let tls = certificates(folder)?;
        let addresses = || (0..MEMBERS).map(|_| free_address()).collect::<Result<Vec<_>, _>>();
        let (clients, peers) = (addresses()?, addresses()?);
        let mut etcd = Self { folder: folder.to_owned(), clients, peers, members: vec![], tls };
        for number in 0..MEMBERS {
            let member = etcd.start(number)?;
            etcd.members.push(Some(member));
        }
        etcd.settle().await?;
        Ok(etcd)
    }

    fn start(&self, number: usize) -> Result<Process, String> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let url = |address: &str| format!("https://{address}");
        let all: Vec<_> = self.peers.iter().enumerate().map(|(at, peer)| format!("m{at}={}", url(peer))).collect();
        let (client, peer) = (url(&self.clients[number]), url(&self.peers[number]));
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("m{number}"), "--data-dir", &at(&format!("m{number}"))]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        for kind in ["", "peer-"] {
            command.args([format!("--{kind}cert-file"), at("member.pem"), format!("--{kind}key-file"), at("key.pem")]);
            command.args([
                format!("--{kind}trusted-ca-file"),
                at("authority.pem"),
                format!("--{kind}client-cert-auth"),
            ]);
        }
        command.args(["--logger", "zap", "--log-level", "error"]);
        Process::start(&mut command, &self.folder.join(format!("m{number}.log")))
    }

    /// A client of one member, with a connection of its own.
    pub(crate) fn client(&self, member: usize) -> EtcdClient {
        EtcdClient::new(&self.clients[member], self.tls.clone())
    }

    /// Waits until every member answers, knows a leader and has caught up: which one leads.
    pub(crate) async fn settle(&self) -> Result<usize, String> {
        let start = flowyard_clock::monotonic();
        while flowyard_clock::elapsed(start) < PATIENCE {
            let (mut leader, mut indexes) = (None, Vec::new());
            for member in 0..MEMBERS {
                let Ok(Ok(status)) = tokio::time::timeout(Duration::from_secs(1), self.client(member).status()).await
                else {
                    break;
                };
                if status.is_led() {
                    indexes.push(status.index);
                }
                leader = leader.or(status.leads().then_some(member));
            }
            if let Some(leader) = leader
                && indexes.len() == MEMBERS
                && indexes.iter().max().zip(indexes.iter().min()).is_some_and(|(most, least)| most - least < 8)
            {
                return Ok(leader);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("etcd does not come up; see what its members say in the bench's folder".to_owned())
    }

    /// Kills a member as nothing can be prepared for.
    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(process) = self.members[member].take() {
            process.kill();
        }
    }

    /// Starts a member again.
    pub(crate) fn restart(&mut self, member: usize) -> Result<(), String> {
        self.members[member] = Some(self.start(member)?);
        Ok(())
    }
}

/// Writes an authority, and one certificate of it that members and clients show; what a client does with them.
fn certificates(folder: &Path) -> Result<Arc<rustls::ClientConfig>, String> {
    let failed = |error: rcgen::Error| format!("a certificate for etcd: {error}");
    let authority_key = KeyPair::generate().map_err(failed)?;
    let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().map_err(failed)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let member_pem = CertificateParams::new(names).and_then(|it| it.signed_by(&key, &issuer)).map_err(failed)?.pem();
    let key_pem = key.serialize_pem();
    for (name, text) in [("authority.pem", &authority_pem), ("member.pem", &member_pem), ("key.pem", &key_pem)] {
        std::fs::write(folder.join(name), text).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    client_config(&authority_pem, &member_pem, &key_pem)
}

fn client_config(authority: &str, own: &str, key: &str) -> Result<Arc<rustls::ClientConfig>, String> {
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(authority)?).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(own)?], key);
    let mut config = config.map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
