//! Who gets through, over loopback: each pair of certificates that can meet, and what the operator reads.

mod grpc;
mod house;
mod joining;
mod judging;
mod storm;

use std::sync::atomic::Ordering;

use flowyard_identity::{Certificates, ConnectError, LAPSED_MS, NODE_LIFE_MS, Refused, Renewal, Subject, explain};
use flowyard_model::{Epoch, Identity, ReplicaId, TimeMs};
use house::{HOUR, House, NOON, agent, coordinator, name, person, talk};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NODES: Certificates = Certificates::Required;
const PEOPLE: Certificates = Certificates::Welcome { lapsed_ms: LAPSED_MS };

/// Connects, and says what the client learns once it speaks.
async fn said_to(connector: flowyard_identity::Connector, address: &str) -> String {
    let (mut stream, _) = match connector.connect(address).await {
        Ok(connected) => connected,
        Err(error) => return error.to_string(),
    };
    match talk(&mut stream).await {
        Ok(()) => "welcome".to_owned(),
        Err(error) => explain(&error).map_or_else(|| format!("broken: {error}"), str::to_owned),
    }
}

#[tokio::test]
async fn nodes_and_people_of_the_cluster_meet_and_know_each_other() {
    let house = House::new("c1");
    let mut port = house.open(house.credential(coordinator()), NODES).await;
    for subject in [coordinator(), agent(), person()] {
        let own = house.credential(subject.clone());
        let (mut stream, server) = house.connector(Some(own.clone())).connect(&port.address).await.unwrap();
        talk(&mut stream).await.unwrap();
        assert_eq!(server.claim.subject, coordinator());
        let came = port.came().await.expect("a client is known on a port of nodes");
        assert_eq!(*came, *own.get().identified());
        assert_eq!(came.claim.subject, subject);
    }
    assert!(port.nobody_was_refused());
}

#[tokio::test]
async fn a_client_that_is_not_believed_is_refused_with_a_reason_on_both_sides() {
    let (house, foreign) = (House::new("c1"), House::new("c1"));
    let mut port = house.open(house.credential(coordinator()), NODES).await;
    let yesterday = NOON - NODE_LIFE_MS - HOUR;
    let who = Identity::Agent(name("n1"));
    let claimed = Some("agent n1 of cluster c1".to_owned());
    let cases = [
        (
            foreign.credential(agent()),
            Refused::Foreign { ours: "c1".parse().unwrap(), claimed },
            "the other side belongs to another cluster: it does not know our authority",
        ),
        (
            house.credential_at(agent(), 1, yesterday),
            Refused::Expired { who: who.clone(), not_after: TimeMs(NOON - HOUR), now: TimeMs(NOON) },
            "the other side says that our certificate has expired",
        ),
        (
            house.credential_at(agent(), 1, NOON + 25 * HOUR),
            Refused::NotYetValid { who, not_before: TimeMs(NOON + HOUR), now: TimeMs(NOON) },
            "the other side says that our certificate has expired",
        ),
        (
            house.credential_at(coordinator(), 0, NOON),
            Refused::OlderEpoch { who: Identity::Coordinator(ReplicaId(1)), theirs: Epoch(0), ours: Epoch(1) },
            "the other side belongs to another cluster, or another epoch of it",
        ),
    ];
    for (own, reason, told) in cases {
        assert_eq!(said_to(house.connector(Some(own)), &port.address).await, told);
        assert_eq!(port.refused().await, reason);
        assert!(port.nobody_came(), "{reason}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_believed_is_refused_before_anything_is_said_to_it() {
    let (house, foreign) = (House::new("c1"), House::new("c2"));
    let yesterday = NOON - NODE_LIFE_MS - HOUR;
    let cases = [
        (
            foreign.credential(coordinator()),
            "was not issued by the authority of cluster c1 (it says that it is coordinator 1 of cluster c2)",
        ),
        (house.credential_at(coordinator(), 1, yesterday), "expired at"),
        (house.credential(agent()), "the certificate of agent n1 was issued for another use"),
        (house.credential(person()), "the certificate of person ada was issued for another use"),
        (house.credential_at(coordinator(), 0, NOON), "coordinator 1 is of epoch 0, and the cluster is in epoch 1"),
    ];
    for (own, told) in cases {
        let mut port = house.open(own, NODES).await;
        let connected = house.connector(Some(house.credential(agent()))).connect(&port.address).await;
        let error = connected.expect_err(told);
        assert!(error.to_string().contains(told), "{error}");
        assert!(matches!(error, ConnectError::Refused { .. }));
        assert!(matches!(port.refused().await, Refused::RefusedUs(_)));
        assert!(port.nobody_came());
    }
}

#[tokio::test]
async fn a_link_to_one_replica_is_not_made_to_another() {
    let house = House::new("c1");
    let port = house.open(house.credential(coordinator()), NODES).await;
    let connector = house.connector(Some(house.credential_at(Subject::Coordinator { replica: ReplicaId(2) }, 1, NOON)));
    assert!(connector.clone().expecting(ReplicaId(1)).connect(&port.address).await.is_ok());
    let error = connector.expecting(ReplicaId(3)).connect(&port.address).await.expect_err("replica 1 answers");
    let told = "coordinator 1 answers there, and replica 3 was expected: the address belongs to another one now";
    assert!(error.to_string().ends_with(told), "{error}");
}

#[tokio::test]
async fn who_has_no_certificate_is_welcome_only_where_people_come() {
    let house = House::new("c1");
    let mut nodes = house.open(house.credential(coordinator()), NODES).await;
    let told = said_to(house.connector(None), &nodes.address).await;
    assert_eq!(told, "the other side asks for a certificate, and we have none: join first");
    assert_eq!(nodes.refused().await, Refused::NoCertificate);
    let mut people = house.open(house.credential(coordinator()), PEOPLE).await;
    assert_eq!(said_to(house.connector(None), &people.address).await, "welcome");
    assert_eq!(people.came().await, None);
    // A bad certificate is worse than none.
    let foreign = House::new("c1").credential(person());
    assert_ne!(said_to(house.connector(Some(foreign)), &people.address).await, "welcome");
    assert!(matches!(people.refused().await, Refused::Foreign { .. }));
}

#[tokio::test]
async fn an_expired_node_gets_in_to_renew_itself_and_nowhere_else() {
    let house = House::new("c1");
    let own = house.credential(agent());
    let renewed = house.credential_at(coordinator(), 1, NOON + 5 * NODE_LIFE_MS);
    let mut nodes = house.open(renewed.clone(), NODES).await;
    let mut people = house.open(renewed, PEOPLE).await;
    house.set_time(NOON + 5 * NODE_LIFE_MS);
    let told = said_to(house.connector(Some(own.clone())), &nodes.address).await;
    assert_eq!(told, "the other side says that our certificate has expired");
    assert!(matches!(nodes.refused().await, Refused::Expired { .. }));
    assert_eq!(said_to(house.connector(Some(own.clone())), &people.address).await, "welcome");
    assert!(people.came().await.unwrap().lapsed);
    let later = NOON + NODE_LIFE_MS + LAPSED_MS + HOUR;
    house.set_time(later);
    let mut people = house.open(house.credential_at(coordinator(), 1, later), PEOPLE).await;
    assert_ne!(said_to(house.connector(Some(own)), &people.address).await, "welcome");
    assert!(matches!(people.refused().await, Refused::Expired { .. }));
}

#[tokio::test]
async fn who_is_shut_out_gets_no_further_request_and_no_further_connection() {
    let house = House::new("c1");
    let mut port = house.open(house.credential(coordinator()), NODES).await;
    let connector = house.connector(Some(house.credential(agent())));
    let (mut stream, _) = connector.connect(&port.address).await.unwrap();
    talk(&mut stream).await.unwrap();
    let came = port.came().await.unwrap();
    assert_eq!(house.trust.admit(&came), Ok(()));
    house.shut_out.store(true, Ordering::Relaxed);
    let revoked = Refused::Revoked { who: Identity::Agent(name("n1")) };
    assert_eq!(house.trust.admit(&came), Err(revoked.clone()));
    assert_eq!(said_to(connector, &port.address).await, "the other side says that we were revoked");
    assert_eq!(port.refused().await, revoked);
}

/// Waits until a connection on which nothing is said ends by itself.
async fn ended(mut stream: flowyard_identity::Open) {
    let mut byte = [0];
    let read = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read(&mut byte)).await;
    assert!(matches!(read.expect("it goes on"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn an_open_connection_ends_when_either_side_is_shut_out_or_expires() {
    for (theirs, ours) in [(true, false), (false, true)] {
        let house = House::new("c1");
        let later = |of: bool| if of { NOON + 2 * HOUR } else { NOON };
        let server = house.credential_at(coordinator(), 1, later(theirs));
        let client = house.credential_at(agent(), 1, later(ours));
        let port = house.open(server, NODES).await;
        let (mut stream, _) = house.connector(Some(client)).connect(&port.address).await.unwrap();
        talk(&mut stream).await.unwrap();
        // One of the two has expired.
        house.set_time(NOON + NODE_LIFE_MS + HOUR);
        ended(stream).await;
    }
    let house = House::new("c1");
    let port = house.open(house.credential(coordinator()), NODES).await;
    let (mut stream, _) = house.connector(Some(house.credential(agent()))).connect(&port.address).await.unwrap();
    talk(&mut stream).await.unwrap();
    house.shut_out.store(true, Ordering::Relaxed);
    ended(stream).await;
}

#[tokio::test]
async fn certificates_are_replaced_on_both_sides_under_an_open_listener() {
    let house = House::new("c1");
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = (house.credential(coordinator()), house.credential(agent()));
    let mut port = house.open(server.clone(), NODES).await;
    let connector = house.connector(Some(client.clone()));
    let (mut old, _) = connector.connect(&port.address).await.unwrap();
    talk(&mut old).await.unwrap();
    let before = port.came().await.unwrap();
    house.set_time(NOON + NODE_LIFE_MS * 2 / 3);
    for (own, subject) in [(&server, coordinator()), (&client, agent())] {
        assert!(own.get().renew_at().0.abs_diff(NOON + NODE_LIFE_MS * 2 / 3) < 2_000);
        let renewal =
            Renewal { trust: house.trust.clone(), own: own.clone(), path: folder.path().join("credential.pem") };
        let sign = async |request: Vec<u8>| Ok(judging::issue(&house, &request, subject.clone()));
        renewal.renew(sign).await.unwrap();
    }
    // The first certificates are over, and so is the connection made with them; the next ones are believed.
    house.set_time(NOON + NODE_LIFE_MS + HOUR);
    ended(old).await;
    assert!(matches!(house.trust.admit(&before), Err(Refused::Expired { .. })), "requests need a certificate of now");
    let (mut fresh, shown) = connector.connect(&port.address).await.unwrap();
    talk(&mut fresh).await.unwrap();
    let after = port.came().await.unwrap();
    assert_ne!(after.serial, before.serial);
    assert_ne!(after.key, before.key, "each certificate has a key of its own");
    assert_eq!(shown.serial, server.get().identified().serial);
    assert_eq!(house.trust.admit(&after), Ok(()));
}

/// A greeting of TLS 1.2, without the extension that offers later versions.
fn hello_of_tls12() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([0x5a; 32]);
    hello.push(0);
    hello.extend([0, 2, 0xc0, 0x2b, 1, 0]);
    // Supported groups and signature algorithms, as clients of that time sent them.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut bytes = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    bytes.extend(hello);
    bytes
}

#[tokio::test]
async fn older_tls_and_what_is_no_tls_are_refused() {
    let house = House::new("c1");
    let mut port = house.open(house.credential(coordinator()), PEOPLE).await;
    let mut stream = TcpStream::connect(&port.address).await.unwrap();
    stream.write_all(&hello_of_tls12()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // A fatal alert: protocol_version.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
    assert_eq!(port.refused().await, Refused::OtherProtocol);
    let mut stream = TcpStream::connect(&port.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: flowyard\r\n\r\n").await.unwrap();
    assert_eq!(port.refused().await, Refused::OtherProtocol);
    let mut stream = TcpStream::connect(&port.address).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(matches!(port.refused().await, Refused::Broken(_)));
    assert!(port.nobody_came());
}
