//! Many who connect, slowly, and all at once.

use std::time::Duration;

use flowyard_identity::{Bounds, Certificates, Refused};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{House, agent, coordinator, talk};

/// Sends the beginning of a greeting, a byte at a time, for as long as it is let.
async fn drip(address: String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for byte in [22_u8, 3, 1, 2, 0, 1].into_iter().chain(std::iter::repeat_n(0, 250)) {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whatever it is told; it is hung up on in the end.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_slow_handshake_times_out_while_others_are_served() {
    let house = House::new("c1");
    let bounds = Bounds { handshakes: 64, handshake_ms: 400, connections: 1_000, ..Bounds::STANDARD };
    let mut port = house.open_bounded(house.credential(coordinator()), Certificates::Required, bounds).await;
    let slow: Vec<_> = (0..8).map(|_| tokio::spawn(drip(port.address.clone()))).collect();
    let connector = house.connector(Some(house.credential(agent())));
    for _ in 0..10 {
        let (mut stream, _) = connector.connect(&port.address).await.unwrap();
        talk(&mut stream).await.unwrap();
        assert!(port.came().await.is_some());
    }
    for _ in &slow {
        assert_eq!(port.refused().await, Refused::TooSlow(400));
    }
    for dripping in slow {
        dripping.await.unwrap();
    }
    assert!(port.nobody_was_refused() && port.nobody_came());
}

#[tokio::test]
async fn who_fills_the_room_for_handshakes_makes_room_for_others() {
    let house = House::new("c1");
    let bounds = Bounds { handshakes: 4, handshake_ms: 60_000, connections: 1_000, ..Bounds::STANDARD };
    let mut port = house.open_bounded(house.credential(coordinator()), Certificates::Required, bounds).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(&port.address).await.unwrap());
    }
    let connector = house.connector(Some(house.credential(agent())));
    for _ in 0..5 {
        let (mut stream, _) = connector.connect(&port.address).await.unwrap();
        talk(&mut stream).await.unwrap();
        assert!(port.came().await.is_some());
    }
    // All but the four that there was room for, and those that the honest ones took the place of.
    for _ in 0..36 {
        assert_eq!(port.refused().await, Refused::Crowded);
    }
    // They are hung up on, not only forgotten.
    let mut hung_up = 0;
    for stream in &mut idle {
        let read = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut [0; 8])).await;
        hung_up += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!((36..=40).contains(&hung_up), "{hung_up} of 40");
}

#[tokio::test]
async fn so_many_are_connected_at_a_time_and_a_place_that_is_left_is_given_again() {
    let house = House::new("c1");
    let bounds = Bounds { handshakes: 64, handshake_ms: 10_000, connections: 2, ..Bounds::STANDARD };
    let mut port = house.open_bounded(house.credential(coordinator()), Certificates::Required, bounds).await;
    let connector = house.connector(Some(house.credential(agent())));
    let mut open = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = connector.connect(&port.address).await.unwrap();
        talk(&mut stream).await.unwrap();
        open.push(stream);
    }
    assert!(connector.connect(&port.address).await.is_err());
    assert_eq!(port.refused().await, Refused::Full(2));
    open.pop().unwrap().shutdown().await.unwrap();
    for _ in 0..100 {
        if let Ok((mut stream, _)) = connector.connect(&port.address).await {
            return talk(&mut stream).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place was not given again");
}
