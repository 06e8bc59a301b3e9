//! What strangers show to be let in: tokens, certificates, requests for them.

use std::sync::LazyLock;

use flowyard_identity::{
    ApiToken, Authority, Certificate, Claim, Clock, ClusterId, JoinToken, KeyRequest, Order, Secret, Side, Subject,
    Trust,
};
use flowyard_model::{Epoch, Fingerprint, Revision, TimeMs, TokenId};

use super::{Target, quick, text, texts};

pub(super) const TARGETS: &[Target] = &[
    quick("token-join", token_join, tokens),
    quick("token-api", token_api, tokens),
    quick("claim", claim, claims),
    Target { name: "certificate", run: certificate, corpus: certificates, inputs: 1_000 },
    Target { name: "authority-key", run: authority_key, corpus: authority_keys, inputs: 300 },
    Target { name: "key-request", run: key_request, corpus: key_requests, inputs: 1_000 },
];

const NOW: TimeMs = TimeMs(1_800_000_000_000);
const LIFE_MS: u64 = 3_600_000;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let cluster: ClusterId = "0193f0a0-0000-7000-8000-000000000001".parse::<ClusterId>().expect("it is an id");
    Authority::generate(cluster, NOW).expect("an authority can be made")
});
static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    Trust::new(AUTHORITY.certificate().clone(), Epoch(0), Clock::of(|| NOW), |_| false).expect("it is an authority")
});

fn token_join(bytes: &[u8]) -> bool {
    let Ok(token) = text(bytes).parse::<JoinToken>() else { return false };
    assert_eq!(token.to_text().parse::<JoinToken>().ok(), Some(token));
    true
}

fn token_api(bytes: &[u8]) -> bool {
    let Ok(token) = text(bytes).parse::<ApiToken>() else { return false };
    assert_eq!(token.to_text().parse::<ApiToken>().ok(), Some(token));
    true
}

fn tokens() -> Vec<Vec<u8>> {
    let addresses = vec!["coordinator-1:7000".to_owned(), "[::1]:7000".to_owned()];
    let (id, secret, authority) = (TokenId(7), Secret::shown([9; 32]), Fingerprint([3; 32]));
    let api = ApiToken { id, secret: secret.clone(), authority, addresses: addresses.clone() };
    let join = JoinToken { id, secret, authority, addresses };
    texts(&[&api.to_text(), &join.to_text()])
}

fn claim(bytes: &[u8]) -> bool {
    let Ok(claim) = text(bytes).parse::<Claim>() else { return false };
    assert_eq!(claim.to_string().parse::<Claim>().ok(), Some(claim));
    true
}

fn order() -> Order {
    let subject = Subject::Agent { name: "node-5".parse().expect("it is a name") };
    Order { subject, epoch: Epoch(0), revision: Revision(1), now: NOW, life_ms: LIFE_MS }
}

fn claims() -> Vec<Vec<u8>> {
    let Order { subject, epoch, revision, .. } = order();
    texts(&[&Claim { cluster: AUTHORITY.cluster().clone(), subject, epoch, revision }.to_string()])
}

fn certificate(bytes: &[u8]) -> bool {
    let shown = Certificate::from(bytes.to_vec());
    let _ = Trust::new(shown.clone(), Epoch(0), Clock::of(|| NOW), |_| false).is_ok();
    let client = TRUST.judge(&shown, Side::Client, LIFE_MS);
    client.is_ok() | TRUST.judge(&shown, Side::Server, 0).is_ok()
}

fn certificates() -> Vec<Vec<u8>> {
    let request = KeyRequest::generate().expect("a key can be made");
    let issued = AUTHORITY.issue(request.bytes(), &order()).expect("it is issued");
    issued.chain.iter().map(|certificate| certificate.to_vec()).collect()
}

fn authority_key(bytes: &[u8]) -> bool {
    Authority::from_pem(text(bytes)).is_ok()
}

fn authority_keys() -> Vec<Vec<u8>> {
    texts(&[&AUTHORITY.to_pem()])
}

fn key_request(bytes: &[u8]) -> bool {
    AUTHORITY.issue(bytes, &order()).is_ok()
}

fn key_requests() -> Vec<Vec<u8>> {
    vec![KeyRequest::generate().expect("a key can be made").bytes().to_vec()]
}
