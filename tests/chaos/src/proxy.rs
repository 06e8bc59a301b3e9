//! The suite's own TCP proxy, which stands in front of each coordinator on its host: links that are slow, and links that lose
//! packets. A lost packet of TCP is one that comes after a retransmission timeout, so that is what a loss is here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::dice::Dice;

/// The first retransmission timeout of Linux.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How the links of a host are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Link {
    /// Added to each piece that passes.
    pub(crate) delay_ms: u64,
    /// Of a thousand pieces, so many are lost once.
    pub(crate) loss_per_mille: u64,
}

/// How the links of all hosts are; those that are not named are as they should be.
#[derive(Debug, Default)]
pub(crate) struct Weather(Mutex<BTreeMap<IpAddr, Link>>);

impl Weather {
    pub(crate) fn set(&self, address: IpAddr, link: Link) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, link);
    }

    /// How long a piece takes between two hosts: as the worse of their links has it.
    fn wait(&self, between: [IpAddr; 2], dice: &mut Dice) -> Duration {
        let links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |address| links.get(&address).copied().unwrap_or_default();
        let [one, other] = between.map(of);
        let lost = dice.roll(1_000) < one.loss_per_mille.max(other.loss_per_mille);
        let delay = Duration::from_millis(one.delay_ms.max(other.delay_ms));
        if lost { delay + RETRANSMISSION } else { delay }
    }
}

/// The proxy of one host; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    _ends: oneshot::Sender<()>,
}

impl Proxy {
    /// Passes on, in the network of `space`, from the host's ports to others on its loopback.
    pub(crate) fn start(
        space: &str,
        doors: &[(SocketAddr, SocketAddr)],
        weather: &Arc<Weather>,
    ) -> Result<Self, String> {
        let (ends, ended) = oneshot::channel();
        let (ready, listens) = std::sync::mpsc::sync_channel(1);
        let (space, doors, weather) = (space.to_owned(), doors.to_vec(), Arc::clone(weather));
        std::thread::spawn(move || {
            let entered = enter(&space).and_then(|()| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let listeners = doors.iter().map(|(from, _)| runtime.block_on(TcpListener::bind(from)));
                Ok((listeners.collect::<std::io::Result<Vec<_>>>()?, runtime))
            });
            let (listeners, runtime) = match entered {
                Ok(entered) => entered,
                // Whoever waits hears it.
                Err(error) => return drop(ready.send(Err(error.to_string()))),
            };
            for (listener, (_, to)) in listeners.into_iter().zip(doors) {
                runtime.spawn(serve(listener, to, Arc::clone(&weather)));
            }
            // Nobody waits only if the run is over.
            let _ = ready.send(Ok(()));
            let _ = runtime.block_on(ended);
        });
        listens.recv().map_err(|error| error.to_string())?.map(|()| Self { _ends: ends })
    }
}

/// Has this thread be on a host from now on, as far as the network goes.
pub(crate) fn enter(space: &str) -> std::io::Result<()> {
    setns(std::fs::File::open(space)?, CloneFlags::CLONE_NEWNET).map_err(Into::into)
}

async fn serve(listener: TcpListener, to: SocketAddr, weather: Arc<Weather>) {
    let own = listener.local_addr().expect("it listens").ip();
    let mut count = 0;
    while let Ok((stream, from)) = listener.accept().await {
        count += 1;
        tokio::spawn(pass(stream, to, [from.ip(), own], Arc::clone(&weather), Dice::new(count)));
    }
}

/// One connection. When nobody listens behind, whoever calls is hung up on.
async fn pass(stream: TcpStream, to: SocketAddr, between: [IpAddr; 2], weather: Arc<Weather>, dice: Dice) {
    let Ok(behind) = TcpStream::connect(to).await else { return };
    // Small messages are not to wait for more.
    let _ = (stream.set_nodelay(true), behind.set_nodelay(true));
    let (from_caller, to_caller) = stream.into_split();
    let (from_behind, to_behind) = behind.into_split();
    tokio::select! {
        () = pump(from_caller, to_behind, between, &weather, dice.clone()) => {}
        () = pump(from_behind, to_caller, between, &weather, dice) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    between: [IpAddr; 2],
    weather: &Weather,
    mut dice: Dice,
) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let wait = weather.wait(between, &mut dice);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_link_decides_and_a_lost_piece_comes_later() {
        let weather = Weather::default();
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([10, 77, 0, last]));
        weather.set(a, Link { delay_ms: 50, loss_per_mille: 0 });
        weather.set(b, Link { delay_ms: 10, loss_per_mille: 1_000 });
        let mut dice = Dice::new(1);
        assert_eq!(weather.wait([a, c], &mut dice), Duration::from_millis(50));
        assert_eq!(weather.wait([c, c], &mut dice), Duration::ZERO);
        assert_eq!(weather.wait([b, a], &mut dice), Duration::from_millis(50) + RETRANSMISSION);
    }

    #[tokio::test]
    async fn bytes_pass_in_both_directions() {
        let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let own = format!("/proc/{}/ns/net", std::process::id());
        let weather = Arc::new(Weather::default());
        let proxy = match Proxy::start(&own, &[(door, behind.local_addr().unwrap())], &weather) {
            Ok(proxy) => proxy,
            Err(reason) => return flowyard_skip::skip(&format!("only root may enter a network: {reason}")),
        };
        let mut caller = TcpStream::connect(door).await.unwrap();
        let (mut inside, _) = behind.accept().await.unwrap();
        caller.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        inside.read_exact(&mut heard).await.unwrap();
        inside.write_all(b"pong").await.unwrap();
        caller.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"pong");
        drop(proxy);
    }
}
