//! gRPC through both ends, as coordinators and agents speak it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use flowyard_identity::{Accepted, Bounds, Certificates, Gate, Identified, accept};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tonic::transport::server::{Connected, Server};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_server::HealthServer};

use crate::house::{House, agent, coordinator};

/// What the coordinator does with an accepted connection: its caller goes into each request.
struct Known(Accepted);

impl Connected for Known {
    type ConnectInfo = Option<Arc<Identified>>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.0.identified().cloned()
    }
}

impl AsyncRead for Known {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Known {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Judged at each request, as the acceptor judged it once.
fn judge(house: &House) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + use<> {
    let trust = house.trust.clone();
    move |request: Request<()>| {
        let caller = request.extensions().get::<Option<Arc<Identified>>>().cloned().flatten();
        let caller = caller.ok_or_else(|| Status::unauthenticated("nobody"))?;
        trust.admit(&caller).map_err(|refused| Status::unauthenticated(refused.to_string()))?;
        Ok(request)
    }
}

async fn ask(channel: &Channel) -> Result<i32, Status> {
    let mut client = HealthClient::new(channel.clone());
    let answer = client.check(HealthCheckRequest { service: String::new() }).await?;
    Ok(answer.into_inner().status)
}

#[tokio::test]
async fn calls_go_through_and_stop_on_an_open_connection_once_their_caller_is_shut_out() {
    let house = House::new("c1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let own = house.credential(coordinator());
    let (trust, bounds) = (house.trust.clone(), Bounds::STANDARD);
    let gate = Gate { trust, own, certificates: Certificates::Required, bounds, refusals: None };
    let incoming = Box::pin(accept(listener, gate)).map(|accepted| accepted.map(Known));
    let (_reporter, service) = health();
    let checked = tonic::service::interceptor::InterceptedService::new(service, judge(&house));
    let serving = tokio::spawn(Server::builder().add_service(checked).serve_with_incoming(incoming));
    let connector = house.connector(Some(house.credential(agent())));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    assert_eq!(ask(&channel).await.unwrap(), 1, "it serves");
    house.shut_out.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = ask(&channel).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Unauthenticated, "agent n1 was revoked"));
    serving.abort();
}

fn health() -> (tonic_health::server::HealthReporter, HealthServer<impl tonic_health::pb::health_server::Health>) {
    tonic_health::server::health_reporter()
}
