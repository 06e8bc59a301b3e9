//! The authority and the judgement, without a network.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use flowyard_identity::{
    ApiToken, Authority, AuthorityError, Claim, Credential, CredentialError, IssueError, JoinToken, KeyRequest,
    LONGEST_PERSON_LIFE_MS, NODE_LIFE_MS, Order, Refused, RenewError, Renewal, Side, Subject, Trust,
    request_fingerprint,
};
use flowyard_model::{Epoch, Identity, Revision, TimeMs};
use proptest::prelude::*;
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::pki_types::CertificateDer;

use crate::house::{HOUR, House, NOON, agent, coordinator, name, person};

pub(crate) fn order(house: &House, subject: Subject) -> Order {
    let now = house.clock().now();
    Order { subject, epoch: Epoch(1), revision: Revision(7), now, life_ms: NODE_LIFE_MS }
}

pub(crate) fn issue(house: &House, request: &[u8], subject: Subject) -> Vec<CertificateDer<'static>> {
    house.authority.issue(request, &order(house, subject)).unwrap().chain
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text.to_owned()).unwrap())
}

#[test]
fn an_authority_survives_its_file_and_issues_as_before() {
    let house = House::new("c1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.pem");
    house.authority.save(&path).unwrap();
    let again = Authority::load(&path).unwrap();
    assert_eq!(again.fingerprint(), house.authority.fingerprint());
    assert_eq!(again.cluster(), house.authority.cluster());
    let request = KeyRequest::generate().unwrap();
    let issued = again.issue(request.bytes(), &order(&house, agent())).unwrap();
    let found = house.trust.judge(&issued.chain[0], Side::Client, 0).unwrap();
    assert_eq!((found.serial, found.not_after, found.key), (issued.serial, issued.not_after, issued.key));
    assert_eq!(found.key, request_fingerprint(request.bytes()).unwrap());
    assert_eq!(found.identities()[0], Identity::Agent(name("n1")));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(Authority::load(&path), Err(AuthorityError::File(_))));
    let other = House::new("c1").authority.to_pem();
    let mixed = format!("{}{}", key_of(&other), certificate_of(&house.authority.to_pem()));
    assert!(matches!(Authority::from_pem(&mixed), Err(AuthorityError::Mismatch)));
}

fn key_of(pem: &str) -> &str {
    &pem[..pem.find("-----BEGIN CERTIFICATE").unwrap()]
}

fn certificate_of(pem: &str) -> &str {
    &pem[pem.find("-----BEGIN CERTIFICATE").unwrap()..]
}

#[test]
fn of_a_request_only_the_key_is_taken() {
    let house = House::new("c1");
    let key = KeyPair::generate().unwrap();
    let mut lies = CertificateParams::default();
    lies.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    lies.subject_alt_names = vec![uri("flowyard://c1/coordinator/1?epoch=1&revision=7")];
    lies.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let request = lies.serialize_request(&key).unwrap();
    let chain = issue(&house, request.der(), agent());
    let found = house.trust.judge(&chain[0], Side::Client, 0).unwrap();
    assert_eq!(found.claim.subject, agent());
    assert!(matches!(house.trust.judge(&chain[0], Side::Server, 0), Err(Refused::WrongUsage { .. })));
    // Nor does its key sign for others.
    let params = CertificateParams::new(Vec::new()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&chain[0], &key).unwrap();
    let mut below = params.clone();
    below.subject_alt_names = vec![uri("flowyard://c1/person/eve/admin?epoch=1&revision=7")];
    let below = below.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    assert!(matches!(
        house.trust.judge(below.der(), Side::Client, 0),
        Err(Refused::Foreign { .. } | Refused::Unreadable(_))
    ));
}

#[test]
fn a_request_that_proves_nothing_is_refused() {
    let house = House::new("c1");
    let request = KeyRequest::generate().unwrap();
    let order = order(&house, agent());
    let mut forged = request.bytes().to_vec();
    // The key in it becomes another one, its signature stays.
    let at = forged.len() / 3;
    forged[at] ^= 1;
    assert!(matches!(house.authority.issue(&forged, &order), Err(IssueError::Request(_))));
    assert!(matches!(house.authority.issue(b"", &order), Err(IssueError::Request(_))));
    assert!(matches!(house.authority.issue(&[0x30; 9_000], &order), Err(IssueError::TooLarge { bytes: 9_000 })));
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let other = CertificateParams::default().serialize_request(&other).unwrap();
    assert!(matches!(house.authority.issue(other.der(), &order), Err(IssueError::Algorithm)));
}

#[test]
fn lives_are_bounded_nodes_short_and_people_longer() {
    let house = House::new("c1");
    let request = KeyRequest::generate().unwrap();
    let wish = |subject, life_ms| house.authority.issue(request.bytes(), &Order { life_ms, ..order(&house, subject) });
    assert!(wish(person(), LONGEST_PERSON_LIFE_MS).is_ok());
    for (subject, life_ms) in [(agent(), LONGEST_PERSON_LIFE_MS), (coordinator(), LONGEST_PERSON_LIFE_MS), (agent(), 0)]
    {
        assert!(matches!(wish(subject, life_ms), Err(IssueError::Life { .. })));
    }
    assert!(matches!(wish(person(), LONGEST_PERSON_LIFE_MS + 1), Err(IssueError::Life { .. })));
}

#[test]
fn what_the_authority_did_not_issue_for_this_is_not_believed() {
    let house = House::new("c1");
    let judge = |der: &CertificateDer<'_>| house.trust.judge(der, Side::Client, 0);
    let key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::default();
    own.subject_alt_names = vec![uri("flowyard://c1/person/eve/admin?epoch=1&revision=7")];
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let own = own.self_signed(&key).unwrap();
    assert!(matches!(judge(own.der()), Err(Refused::Foreign { .. } | Refused::Unreadable(_))), "signed by itself");
    assert!(judge(house.authority.certificate()).is_err(), "the authority itself is nobody's node");
    assert!(matches!(judge(&CertificateDer::from(vec![0x30, 3, 1, 2])), Err(Refused::Unreadable(_))));
    let request = KeyRequest::generate().unwrap();
    let mut chain = issue(&house, request.bytes(), agent());
    assert!(judge(&chain[0]).is_ok());
    let mut longer = chain.remove(0).to_vec();
    longer.push(0);
    assert!(judge(&CertificateDer::from(longer)).is_err(), "bytes after its end");
}

/// A certificate that the authority signed, whatever it says.
fn signed(house: &House, params: &CertificateParams) -> CertificateDer<'static> {
    let pem = house.authority.to_pem();
    let key = KeyPair::from_pem(&pem).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(certificate_of(&pem), key).unwrap();
    params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
}

#[test]
fn even_what_the_authority_signed_is_read_strictly() {
    let house = House::new("c1");
    let mut good = CertificateParams::default();
    good.subject_alt_names = vec![uri("flowyard://c1/agent/n1?epoch=1&revision=7")];
    good.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    good.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x41; 16]));
    let judge = |side, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = good.clone();
        change(&mut params);
        house.trust.judge(&signed(&house, &params), side, 0)
    };
    let client = |change: &dyn Fn(&mut CertificateParams)| judge(Side::Client, change).map(|_| ()).unwrap_err();
    assert_eq!(judge(Side::Client, &|_| {}).unwrap().claim.subject, agent());
    let of_agent = judge(Side::Server, &|_| {}).unwrap_err();
    assert_eq!(of_agent, Refused::NoCoordinator { subject: agent() });
    let other = client(&|params| params.subject_alt_names = vec![uri("flowyard://c2/agent/n1?epoch=1&revision=7")]);
    assert_eq!(other, Refused::OtherCluster { theirs: "c2".parse().unwrap(), ours: "c1".parse().unwrap() });
    let both = client(&|params| {
        params.subject_alt_names.push(uri("flowyard://c1/person/eve/admin?epoch=1&revision=7"));
    });
    assert_eq!(both, Refused::Unreadable("it names more than one"));
    assert_eq!(client(&|params| params.subject_alt_names.clear()), Refused::Unreadable("it names nobody"));
    let elsewhere = client(&|params| params.subject_alt_names = vec![uri("https://c1/agent/n1?epoch=1&revision=7")]);
    assert_eq!(elsewhere, Refused::Unreadable("it names no subject of a Flowyard cluster"));
    let short = client(&|params| params.serial_number = Some(rcgen::SerialNumber::from_slice(&[7])));
    assert_eq!(short, Refused::Unreadable("its serial number is not of 16 bytes"));
    let usage = client(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    assert!(matches!(usage, Refused::WrongUsage { .. }), "{usage}");
    let authority = client(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert!(matches!(authority, Refused::Foreign { .. }), "{authority}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_bit_of_a_certificate_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (trust, leaf) = &*ISSUED;
        let mut bytes = leaf.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(trust.judge(&CertificateDer::from(bytes), Side::Client, 0).is_err());
    }

    #[test]
    fn what_comes_from_outside_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
        let (trust, _) = &*ISSUED;
        prop_assert!(trust.judge(&CertificateDer::from(bytes.clone()), Side::Client, 0).is_err());
        prop_assert!(request_fingerprint(&bytes).is_err());
        for text in [text.clone(), format!("fyt1-{text}"), format!("flowyard://{text}")] {
            prop_assert!(text.parse::<JoinToken>().is_err());
            prop_assert!(text.parse::<ApiToken>().is_err());
            prop_assert!(text.parse::<Claim>().is_err());
        }
        prop_assert!(Authority::from_pem(&text).is_err());
    }
}

/// One certificate that is good, and who believes it.
static ISSUED: LazyLock<(Arc<Trust>, CertificateDer<'static>)> = LazyLock::new(|| {
    let house = House::new("c1");
    let chain = issue(&house, KeyRequest::generate().unwrap().bytes(), agent());
    (house.trust.clone(), chain[0].clone())
});

#[test]
fn a_certificate_goes_with_its_own_key_and_survives_its_file() {
    let house = House::new("c1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credential.pem");
    let (mine, other) = (KeyRequest::generate().unwrap(), KeyRequest::generate().unwrap());
    let chain = issue(&house, mine.bytes(), agent());
    assert!(matches!(Credential::new(&other, chain.clone(), &house.trust), Err(CredentialError::Mismatch(_))));
    let credential = Credential::new(&mine, chain, &house.trust).unwrap();
    credential.save(&path).unwrap();
    assert_eq!(Credential::kept_authority(&path).unwrap(), *house.authority.certificate());
    assert_eq!(Credential::load(&path, &house.trust).unwrap().identified(), credential.identified());
    // It may lie there longer than it lives, and still be shown to be renewed.
    house.set_time(NOON + NODE_LIFE_MS + HOUR);
    assert!(Credential::load(&path, &house.trust).unwrap().identified().lapsed);
    let foreign = House::new("c1");
    assert!(matches!(Credential::load(&path, &foreign.trust), Err(CredentialError::Refused(_))));
    assert!(!format!("{credential:?}").contains("BEGIN"), "the key is shown to nobody");
}

#[tokio::test]
async fn a_renewal_goes_on_after_a_failure_and_takes_no_other_name() {
    let house = House::new("c1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credential.pem");
    let own = house.credential(agent());
    let first = own.get().identified().serial;
    let renewal = Renewal { trust: house.trust.clone(), own: own.clone(), path: path.clone() };
    let other = async |request: Vec<u8>| Ok(issue(&house, &request, person()));
    assert!(matches!(renewal.renew(other).await, Err(RenewError::OtherSubject { .. })));
    assert_eq!(own.get().identified().serial, first);
    house.set_time(own.get().renew_at().0 + 1);
    let tries = AtomicU32::new(0);
    let sign = async |request: Vec<u8>| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => Err("no leader".into()),
        _ => Ok(issue(&house, &request, agent())),
    };
    let replaced = async {
        while own.get().identified().serial == first {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let renewed = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! { () = renewal.run(sign) => {}, () = replaced => {} }
    });
    renewed.await.expect("it was not renewed");
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    let kept = Credential::load(&path, &house.trust).unwrap();
    assert_eq!(kept.identified(), own.get().identified());
    let until = (house.clock().now().0 + NODE_LIFE_MS) / 1_000 * 1_000;
    assert_eq!(own.get().identified().not_after, TimeMs(until));
}
