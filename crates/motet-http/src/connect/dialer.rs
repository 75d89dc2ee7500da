use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::resolver::Resolver;
use super::transport::{Duplex, Transport};
use super::{ConnectError, dial};
use crate::Host;
use crate::client::BoxError;

/// Says whether to connect to an address, and why not.
pub(crate) type AddressFilter = Arc<dyn Fn(IpAddr) -> Result<(), BoxError> + Send + Sync>;

/// Connects to a host, in place of the resolver and TCP.
pub(crate) type Dial =
    Arc<dyn Fn(Host) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>> + Send + Sync>;

/// Resolves a host and dials what the filter lets through: exactly the addresses that it has seen.
#[derive(Clone)]
pub(crate) struct Dialer(Arc<Shared>);

struct Shared {
    filter: Option<AddressFilter>,
    resolver: Resolver,
    dial: Option<Dial>,
}

impl Dialer {
    pub(crate) fn new(filter: Option<AddressFilter>, dial: Option<Dial>) -> Self {
        Self(Arc::new(Shared { filter, resolver: Resolver::default(), dial }))
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Transport>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { Ok(TokioIo::new(shared.connect(&uri).await?)) })
    }
}

impl Shared {
    async fn connect(&self, uri: &Uri) -> Result<Transport, ConnectError> {
        let Some(dial) = &self.dial else { return self.connect_tcp(uri).await.map(Transport::Tcp) };
        let host = Host::of(uri).ok_or(ConnectError::NoHost)?;
        let dialled = dial(host.clone()).await;
        dialled.map(Transport::Given).map_err(|source| ConnectError::Given { host, source })
    }

    async fn connect_tcp(&self, uri: &Uri) -> Result<TcpStream, ConnectError> {
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let mut addresses = self.addresses(host).await?;
        if let Some(filter) = &self.filter {
            let mut refused = None;
            addresses.retain(|&address| match filter(address) {
                Ok(()) => true,
                Err(source) => {
                    refused = Some(ConnectError::Refused { address, source });
                    false
                }
            });
            if let (true, Some(refused)) = (addresses.is_empty(), refused) {
                return Err(refused);
            }
        }
        let sockets = addresses.into_iter().map(|address| SocketAddr::new(address, port));
        let no_address = || Err(ConnectError::NoAddress { host: host.to_owned() });
        dial::first_of(sockets).await.unwrap_or_else(no_address)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.resolver.lookup(host).await,
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}
