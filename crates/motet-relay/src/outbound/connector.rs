//! Opening connections: resolve, ask the guard, dial exactly what it let through.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::resolver::Resolver;
use crate::guard::{AddressGuard, Blocked};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// An address that does not answer gets this much of the time before the next one is tried.
const ONE_ADDRESS: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    #[error("{host} does not resolve: {cause}")]
    Resolve { host: String, cause: String },
    #[error("{host} resolves to no address")]
    NoAddress { host: String },
    #[error("not connected: {0}")]
    Blocked(Blocked),
    #[error("no connection to {address}: {cause}")]
    Dial { address: SocketAddr, cause: io::Error },
    #[error("no connection within {} ms", .0.as_millis())]
    Deadline(Duration),
}

/// Dials addresses that the guard lets through.
#[derive(Debug, Clone)]
pub(super) struct GuardedConnector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    guard: AddressGuard,
    /// Made on first use: endpoints given by address need none.
    resolver: OnceLock<Resolver>,
}

impl GuardedConnector {
    pub(super) fn new(guard: AddressGuard) -> Self {
        Self { shared: Arc::new(Shared { guard, resolver: OnceLock::new() }) }
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { Ok(TokioIo::new(shared.connect(&uri).await?)) })
    }
}

impl Shared {
    async fn connect(&self, uri: &Uri) -> Result<TcpStream, ConnectError> {
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let mut last = ConnectError::NoAddress { host: host.to_owned() };
        for address in self.addresses(host).await? {
            if let Err(blocked) = self.guard.check(address) {
                last = ConnectError::Blocked(blocked);
                continue;
            }
            match dial(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(failed) => last = failed,
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse() {
            return Ok(vec![address]);
        }
        let unresolved = |cause: String| ConnectError::Resolve { host: host.to_owned(), cause };
        let resolver = match self.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let fresh = Resolver::from_system().map_err(|e| unresolved(e.to_string()))?;
                self.resolver.get_or_init(|| fresh)
            }
        };
        resolver.lookup(host).await.map_err(|e| unresolved(e.to_string()))
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let failed = |cause| ConnectError::Dial { address, cause };
    let stream = timeout(ONE_ADDRESS, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    // A request is written at once and in full; waiting to fill a packet only adds delay.
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// Bounds the whole of connecting: name resolution, TCP and TLS.
#[derive(Debug, Clone)]
pub(super) struct ConnectDeadline<C> {
    inner: C,
    limit: Duration,
}

impl<C> ConnectDeadline<C> {
    pub(super) const fn new(inner: C, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<C> Service<Uri> for ConnectDeadline<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Connecting<C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = self.limit;
        let deadline = Instant::now() + limit;
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            timeout_at(deadline, connecting)
                .await
                .unwrap_or_else(|_| Err(ConnectError::Deadline(limit).into()))
        })
    }
}
