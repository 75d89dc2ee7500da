use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::kept::{Kept, Open};
use super::resolver::Resolver;
use super::transport::{Duplex, Transport};
use super::{ConnectError, Plan, dial};
#[cfg(feature = "proxy")]
use super::{Proxy, proxy::Via, tunnel};
use crate::Host;
use crate::client::BoxError;

/// The maximum number of dialled addresses per family: a name may have thousands.
const MOST_OF_FAMILY: usize = 4;

/// Accepts an address, or returns the reason to refuse it.
pub(crate) type AddressFilter = Arc<dyn Fn(IpAddr) -> Result<(), BoxError> + Send + Sync>;

/// Connects to a host, in place of the resolver and TCP.
pub(crate) type Dial =
    Arc<dyn Fn(Host) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>> + Send + Sync>;

/// Resolves a host and dials the addresses that the filter accepts: exactly the addresses that it has checked.
#[derive(Clone)]
pub(crate) struct Dialer(Arc<Shared>);

struct Shared {
    filter: Option<AddressFilter>,
    resolver: Resolver,
    dial: Option<Dial>,
    #[cfg(feature = "proxy")]
    proxy: Option<Proxy>,
    /// Requests of HTTP/2 cannot be forwarded by a proxy: they need a tunnel.
    #[cfg(feature = "proxy")]
    needs_tunnel: bool,
    kept: Arc<Kept>,
    /// The timeout of resolving a name: a part of the timeout of connecting, so that the error can name the slow step.
    resolve: Duration,
}

impl Dialer {
    pub(super) fn new(plan: &Plan) -> Self {
        Self(Arc::new(Shared {
            filter: plan.filter.clone(),
            #[cfg(feature = "dns")]
            resolver: Resolver::new(plan.names.clone()),
            #[cfg(not(feature = "dns"))]
            resolver: Resolver,
            dial: plan.dial.clone(),
            #[cfg(feature = "proxy")]
            proxy: plan.proxy.clone(),
            #[cfg(feature = "proxy")]
            needs_tunnel: !plan.versions.sends_host(),
            kept: Arc::clone(&plan.kept),
            resolve: plan.within / 5 * 3,
        }))
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
        #[cfg(not(feature = "tls"))]
        if uri.scheme_str() == Some("https") {
            return Err(ConnectError::NoTls { host: uri.host().unwrap_or_default().to_owned() });
        }
        #[cfg(feature = "proxy")]
        if let Some(via) = self.proxy.as_ref().and_then(|proxy| proxy.of(uri)) {
            return self.connect_via(&via, uri).await;
        }
        self.open(uri).await
    }

    /// Connects to a proxy, and through it to the host if it is to see bytes alone.
    #[cfg(feature = "proxy")]
    async fn connect_via(&self, via: &Via, uri: &Uri) -> Result<Transport, ConnectError> {
        let unreachable = |error| ConnectError::Proxy { proxy: via.name(), source: Box::new(error) };
        let mut stream = self.open(via.uri()).await.map_err(unreachable)?;
        if uri.scheme_str() == Some("https") || self.needs_tunnel {
            tunnel::open(&mut stream, via, uri).await?;
            Ok(stream)
        } else {
            Ok(stream.forwarded())
        }
    }

    async fn open(&self, uri: &Uri) -> Result<Transport, ConnectError> {
        let Some(dial) = &self.dial else {
            return self.connect_tcp(uri).await.map(|(stream, open)| Transport::tcp(stream, open));
        };
        let host = Host::of(uri).ok_or(ConnectError::NoHost)?;
        let dialled = dial(host.clone()).await;
        dialled.map(Transport::given).map_err(|source| ConnectError::Given { host, source })
    }

    async fn connect_tcp(&self, uri: &Uri) -> Result<(TcpStream, Open), ConnectError> {
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let port = port_of(uri);
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
        let sockets = dialled(&addresses).into_iter().map(|address| SocketAddr::new(address, port));
        let no_address = || Err(ConnectError::NoAddress { host: host.to_owned() });
        dial::first_of(sockets, &self.kept).await.unwrap_or_else(no_address)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.resolver.lookup(host, self.resolve).await,
        }
    }
}

/// Returns the port of a URL, or the default port of its scheme.
pub(super) fn port_of(uri: &Uri) -> u16 {
    let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    uri.port_u16().unwrap_or(default_port)
}

/// Returns the addresses to dial, in order: the families alternate, IPv6 first (RFC 8305, 4).
fn dialled(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut v6 = addresses.iter().filter(|address| address.is_ipv6()).take(MOST_OF_FAMILY);
    let mut v4 = addresses.iter().filter(|address| address.is_ipv4()).take(MOST_OF_FAMILY);
    let turns = (0..MOST_OF_FAMILY).flat_map(|_| [v6.next(), v4.next()]);
    turns.flatten().copied().collect()
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn up_to_four_addresses_of_each_family_are_dialled_in_turns() {
        let many: Vec<_> = (0..3_000_u32).map(|n| IpAddr::V4(n.into())).collect();
        assert_eq!(dialled(&many), many[..4]);
        let mixed = addresses(&["1.1.1.1", "1.1.1.2", "::1", "1.1.1.3", "1.1.1.4", "1.1.1.5", "::2"]);
        let in_turns = addresses(&["::1", "1.1.1.1", "::2", "1.1.1.2", "1.1.1.3", "1.1.1.4"]);
        assert_eq!(dialled(&mixed), in_turns);
        assert!(dialled(&[]).is_empty());
    }
}
