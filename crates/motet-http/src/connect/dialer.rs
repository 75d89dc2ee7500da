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
use super::resolver::{NameSources, Resolver};
use super::transport::{Duplex, Transport};
use super::{ConnectError, dial};
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
    kept: Arc<Kept>,
    /// The timeout of resolving a name: a part of the timeout of connecting, so that the error can name the slow step.
    resolve: Duration,
}

impl Dialer {
    /// `within` is the timeout of connecting.
    pub(super) fn new(
        filter: Option<AddressFilter>,
        dial: Option<Dial>,
        names: NameSources,
        kept: &Arc<Kept>,
        within: Duration,
    ) -> Self {
        let resolve = within / 5 * 3;
        let (resolver, kept) = (Resolver::new(names), Arc::clone(kept));
        Self(Arc::new(Shared { filter, resolver, dial, kept, resolve }))
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
        let Some(dial) = &self.dial else {
            return self.connect_tcp(uri).await.map(|(stream, open)| Transport::Tcp(stream, open));
        };
        let host = Host::of(uri).ok_or(ConnectError::NoHost)?;
        let dialled = dial(host.clone()).await;
        dialled.map(Transport::Given).map_err(|source| ConnectError::Given { host, source })
    }

    async fn connect_tcp(&self, uri: &Uri) -> Result<(TcpStream, Open), ConnectError> {
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
