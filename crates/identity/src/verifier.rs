//! Our judgement in the shape that the TLS library asks for, one verifier per connection, so that the reason reaches whoever
//! asked for the connection and not only the other side as an alert.
//!
//! Sessions are never resumed: a resumed one would not show its certificate again, and go on after it was shut out.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};

use crate::certificate::Identified;
use crate::credential::Current;
use crate::refused::Refused;
use crate::trust::{PROVIDER, Side, Trust};

/// The protocol spoken inside: HTTP/2.
const ALPN: &[u8] = b"h2";

/// Whether callers must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    /// They must: the ports between nodes.
    Required,
    /// They may: the port of the API, where people also come with a token, and joiners have nothing else. One that is shown
    /// and not believed is refused all the same.
    Welcome {
        /// How long ago one may have expired that is shown to be renewed.
        lapsed_ms: u64,
    },
}

/// How a certificate becomes someone.
pub(crate) type Judge = dyn Fn(&CertificateDer<'_>, &[CertificateDer<'_>]) -> Result<Identified, Refused> + Send + Sync;

/// What came of one handshake.
#[derive(Debug, Clone)]
pub(crate) struct Verdict(Arc<OnceLock<Result<Arc<Identified>, Refused>>>);

impl Verdict {
    /// Who it is; `None` if nobody was judged.
    pub(crate) fn identified(&self) -> Option<Arc<Identified>> {
        self.0.get()?.as_ref().ok().cloned()
    }

    /// The reason why a handshake failed: ours, or what is found in its error.
    pub(crate) fn reason(&self, error: &std::io::Error) -> Refused {
        match self.0.get() {
            Some(Err(refused)) => refused.clone(),
            _ => Refused::of_handshake(error),
        }
    }
}

struct Verifier {
    judge: Box<Judge>,
    verdict: Verdict,
    mandatory: bool,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("mandatory", &self.mandatory).finish_non_exhaustive()
    }
}

impl Verifier {
    fn judge(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let judged = (self.judge)(leaf, others).map(Arc::new);
        let told = judged.as_ref().map(drop).map_err(Refused::to_tls);
        // One connection has one handshake, so nothing was set before.
        let _ = self.verdict.0.set(judged);
        told
    }

    fn signed(
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &PROVIDER.signature_verification_algorithms)
    }
}

/// TLS 1.2 is not compiled in; were it ever, it would not get further than this.
fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(leaf, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signed(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(leaf, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signed(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

fn verifier(judge: Box<Judge>, mandatory: bool) -> (Arc<Verifier>, Verdict) {
    let verdict = Verdict(Arc::new(OnceLock::new()));
    (Arc::new(Verifier { judge, verdict: verdict.clone(), mandatory }), verdict)
}

/// The settings for one connection that was accepted.
pub(crate) fn server(trust: &Arc<Trust>, own: &Current, certificates: Certificates) -> (Arc<ServerConfig>, Verdict) {
    let (mandatory, lapsed_ms) = match certificates {
        Certificates::Required => (true, 0),
        Certificates::Welcome { lapsed_ms } => (false, lapsed_ms),
    };
    let (judging, clock) = (trust.clone(), trust.clock().clone());
    let judge = move |leaf: &CertificateDer<'_>, _: &[CertificateDer<'_>]| judging.judge(leaf, Side::Client, lapsed_ms);
    let (verifier, verdict) = verifier(Box::new(judge), mandatory);
    let versions = ServerConfig::builder_with_details(PROVIDER.clone(), Arc::new(clock))
        .with_protocol_versions(&[&TLS13])
        .unwrap_or_else(|error| panic!("the provider speaks TLS 1.3: {error}"));
    let mut config = versions.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(own.clone()));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    (Arc::new(config), verdict)
}

/// The settings for one connection that is made.
pub(crate) fn client(judge: Box<Judge>, clock: super::Clock, own: Option<&Current>) -> (Arc<ClientConfig>, Verdict) {
    let (verifier, verdict) = verifier(judge, true);
    let versions = ClientConfig::builder_with_details(PROVIDER.clone(), Arc::new(clock))
        .with_protocol_versions(&[&TLS13])
        .unwrap_or_else(|error| panic!("the provider speaks TLS 1.3: {error}"));
    let verified = versions.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => verified.with_client_cert_resolver(Arc::new(own.clone())),
        None => verified.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    (Arc::new(config), verdict)
}
