//! A client of etcd, of the same kind as ours: one HTTP/2 connection over TLS 1.3, messages by hand since three suffice.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// `etcdserverpb.PutRequest`; the lease and what else it may say are left out.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `etcdserverpb.PutResponse`; its fields are not looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// `etcdserverpb.StatusRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

/// What a member says of itself, as far as it is asked here: `etcdserverpb.StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MemberStatus {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) index: u64,
}

impl MemberStatus {
    /// Whether who answered leads.
    pub(crate) fn leads(&self) -> bool {
        self.leader != 0 && self.header.as_ref().is_some_and(|header| header.member == self.leader)
    }

    /// Whether it knows a leader.
    pub(crate) fn is_led(&self) -> bool {
        self.leader != 0
    }
}

/// A connection to one member; clones share it.
#[derive(Clone)]
pub(crate) struct EtcdClient {
    grpc: Grpc<Channel>,
}

impl EtcdClient {
    /// It connects with the first call, and again when the connection was lost.
    pub(crate) fn new(address: &str, tls: Arc<rustls::ClientConfig>) -> Self {
        let address = address.to_owned();
        let connector = tower::service_fn(move |_| {
            let (address, tls) = (address.clone(), tls.clone());
            async move {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                TlsConnector::from(tls).connect(name, stream).await.map(TokioIo::new)
            }
        });
        Self { grpc: Grpc::new(Endpoint::from_static("http://etcd").connect_with_connector_lazy(connector)) }
    }

    /// Puts a value.
    pub(crate) async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Status> {
        let put = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        self.call::<_, PutResponse>(put, PutRequest { key, value }).await.map(drop)
    }

    /// How the member is.
    pub(crate) async fn status(&mut self) -> Result<MemberStatus, Status> {
        self.call(PathAndQuery::from_static("/etcdserverpb.Maintenance/Status"), StatusRequest {}).await
    }

    async fn call<Q, A>(&mut self, path: PathAndQuery, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let answer = self.grpc.unary(Request::new(question), path, ProstCodec::<Q, A>::default()).await;
        answer.map(tonic::Response::into_inner)
    }
}
