//! Those who know only the fingerprint of an authority.

use flowyard_identity::{
    Certificates, ConnectError, Credential, Current, JoinToken, KeyRequest, LAPSED_MS, Refused, Secret, introduce,
};
use flowyard_model::TokenId;

use crate::house::{House, agent, coordinator, talk};
use crate::judging::issue;

const PEOPLE: Certificates = Certificates::Welcome { lapsed_ms: LAPSED_MS };

#[tokio::test]
async fn a_joiner_finds_its_cluster_by_the_fingerprint_and_becomes_a_node() {
    let house = House::new("c1");
    let mut port = house.open(house.credential(coordinator()), PEOPLE).await;
    let addresses = vec![port.address.clone()];
    let token = JoinToken { id: TokenId(5), secret: Secret::random(), authority: house.trust.fingerprint(), addresses };
    let pasted: JoinToken = token.to_text().parse().unwrap();
    let mut met = introduce(&pasted.addresses[0], pasted.authority, house.clock()).await.unwrap();
    talk(&mut met.stream).await.unwrap();
    assert_eq!(met.authority, *house.authority.certificate());
    assert_eq!(met.coordinator.claim.subject, coordinator());
    assert_eq!(port.came().await, None);
    let request = KeyRequest::generate().unwrap();
    let chain = issue(&house, request.bytes(), agent());
    let own = Current::new(Credential::new(&request, chain, &house.trust).unwrap());
    let (mut stream, _) = house.connector(Some(own)).connect(&port.address).await.unwrap();
    talk(&mut stream).await.unwrap();
    assert_eq!(port.came().await.unwrap().claim.subject, agent());
}

#[tokio::test]
async fn a_joiner_shows_its_token_to_no_other_cluster() {
    let (house, other) = (House::new("c1"), House::new("c1"));
    let mut port = other.open(other.credential(coordinator()), PEOPLE).await;
    let met = introduce(&port.address, house.trust.fingerprint(), house.clock()).await;
    assert!(matches!(met, Err(ConnectError::Refused { reason: Refused::OtherAuthority, .. })), "{met:?}");
    assert!(port.nobody_came());
    assert!(matches!(port.refused().await, Refused::RefusedUs(_)));
    // The right authority, shown by one who is no coordinator.
    let mut port = house.open(house.credential(agent()), PEOPLE).await;
    let met = introduce(&port.address, house.trust.fingerprint(), house.clock()).await;
    assert!(matches!(met, Err(ConnectError::Refused { reason: Refused::WrongUsage { .. }, .. })), "{met:?}");
    assert!(port.nobody_came());
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let house = House::new("c1");
    for wrong in ["", "host", ":1", "host:", "host:99999"] {
        let error = house.connector(None).connect(wrong).await.expect_err(wrong);
        assert!(matches!(error, ConnectError::Address(_)), "{error}");
    }
}

#[test]
fn secrets_of_tokens_differ() {
    assert_ne!(Secret::random().hash(), Secret::random().hash());
}
