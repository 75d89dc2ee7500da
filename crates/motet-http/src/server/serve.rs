use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use motet::task::{CancelToken, Either, Nursery, Policy, Reason, Scope, ScopeError, race, timeout};
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::ServerStats;
use super::answering::Answering;
use super::builder::{ServerBuilder, ServerSettings};
use super::connection::{Times, Watched, drive};
use super::listener::Listener;
use super::phase::ConnectionState;
use super::registry::{Admission, Limits, Place, Registry};
#[cfg(feature = "tls")]
use super::secured::Secured;
use super::stats::{Counted, Counts};
use super::write_deadline::WriteDeadline;
use crate::client::BoxError;

/// The delay after an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The number of bytes that hyper reads ahead on a connection, and thereby about the largest request head. hyper keeps a
/// buffer as large as the last reads while the connection is idle, by default up to 400 KiB: 500 idle connections after
/// requests of 250 KiB had 130 MB.
const MOST_BUFFERED: usize = 64 << 10;

/// If every connection is busy, the interval at which a new one checks again for an idle one.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An HTTP/1.1 server. Every connection is a task of a scope.
///
/// The handler limits the time and the size of a request body. The handler must also end an endless response, such as
/// server-sent events, when the server stops: otherwise it delays the shutdown for the whole grace, and is then
/// closed.
///
/// Clones share the settings and the count of connections.
///
/// # Too many connections
/// At the limit, a new connection replaces the connection that has been idle longest, so a client that opens
/// connections and sends nothing keeps no other client out. If every connection is busy, new connections wait in the
/// backlog of the kernel. One address can have three quarters of the connections by default.
///
/// # Defaults
/// | Setting | Default | Notes |
/// |---|---|---|
/// | connections | 4096 | idle ones are replaced at the limit |
/// | connections per address | 3072 | for IPv6 per /64 |
/// | reserved connections | 0 | for health checks |
/// | timeout of request headers | 30 s | from the connect; for later requests from their first byte |
/// | size of request headers | some 64 KiB | larger ones get a 431 |
/// | idle timeout | 75 s | proxies use 60 s, and must be the first to close |
/// | time in which a client reads nothing | 30 s | then its connection is closed |
/// | notice before the listener is closed | zero | for load balancers |
/// | grace of requests in flight | 20 s | then their connections are closed |
///
/// [`Duration::MAX`] means never.
///
/// # Examples
/// See [`ApiClient`](crate::ApiClient).
#[derive(Debug, Clone)]
#[must_use = "a server does nothing until it serves"]
pub struct Server {
    settings: ServerSettings,
    counts: Arc<Counts>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Served {
    /// Every connection ended within the grace.
    All,
    /// The grace elapsed before all connections had ended, and the others were closed.
    Cut {
        /// The number of these connections.
        connections: usize,
    },
}

/// The address of the client, in the extensions of a request. A client over a Unix socket or in memory has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Marks a request whose connection is [reserved](ServerBuilder::reserved_connections), because all other connections
/// were busy. It is in the extensions of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved;

impl Server {
    /// Creates a server with the defaults.
    pub fn new() -> Self {
        Self::with(ServerSettings::default())
    }

    /// Creates the builder of a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    pub(super) fn with(settings: ServerSettings) -> Self {
        Self { settings, counts: Arc::default() }
    }

    /// Returns the statistics of the server.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.counts.stats()
    }

    /// Serves until `stop` is cancelled, and returns when the last connection has ended.
    ///
    /// `listener` is a `TcpListener` or `UnixListener` of tokio, a [`MemoryListener`](super::MemoryListener), or another
    /// [`Listener`].
    ///
    /// `service` is a tower service; each request is handled by a clone that is ready. An axum `Router` is one, and so
    /// is a [`Handler`](motet::middleware::Handler) through [`bridge::service`](crate::bridge::service). The extensions
    /// of a request contain the [`Peer`]. A panic of the service ends only its connection.
    ///
    /// # Cancel safety
    /// Dropping the future closes every connection. The enclosing scope waits for the tasks of the connections.
    pub async fn serve<L, S, B>(&self, listener: L, service: S, stop: CancelToken) -> Served
    where
        L: Listener,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        // A handler that panics ends only its own connection.
        let connections = Scope::builder().name("http connections").policy(Policy::Isolate);
        let cut = AtomicUsize::new(0);
        let served = connections.run(async |n: &Nursery| {
            let _shown = self.settings.name.clone().map(|name| {
                let counts = Arc::clone(&self.counts);
                n.register("http server", name, move || counts.stats().shown())
            });
            let left = self.accept_all(n, listener, service, stop).await;
            cut.store(left, Ordering::Relaxed);
            if left > 0 {
                tracing::warn!(
                    connections = left,
                    "closing the connections that are open at the end of the grace"
                );
                n.cancel(Reason::requested("the grace has elapsed"));
            }
            Ok(())
        });
        match served.await {
            Ok(()) | Err(ScopeError::Cancelled { .. }) => {}
            Err(error) => tracing::error!(%error, "the server failed"),
        }
        match cut.into_inner() {
            0 => Served::All,
            connections => Served::Cut { connections },
        }
    }

    /// Returns the number of connections that are open at the end of the grace.
    async fn accept_all<L, S, B>(
        &self,
        connections: &Nursery,
        mut listener: L,
        service: S,
        stop: CancelToken,
    ) -> usize
    where
        L: Listener,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let acceptor = Acceptor {
            connections,
            registry: Registry::new(self.limits()),
            service: TowerToHyperService::new(service),
            unread: self.settings.unread,
            times: Times { head: self.settings.headers, idle: self.settings.idle },
            #[cfg(feature = "tls")]
            tls: self.settings.tls.clone(),
            origin: Instant::now(),
            counts: &self.counts,
            drain: CancelToken::new(),
            stop: stop.clone(),
        };
        let notice = self.stopped(&stop);
        let mut notice = std::pin::pin!(notice);
        loop {
            match race(notice.as_mut(), acceptor.accept(&mut listener)).await {
                Either::Left(()) => break,
                Either::Right(()) => {}
            }
        }
        acceptor.take_backlog(listener);
        acceptor.drain.cancel(Reason::requested("the server is stopping"));
        match timeout(self.settings.grace, acceptor.registry.all_end()).await {
            Ok(()) => 0,
            Err(_) => acceptor.registry.open(),
        }
    }

    fn limits(&self) -> Limits {
        let ServerSettings { connections, per_peer, reserved, .. } = self.settings;
        let per_peer = per_peer.unwrap_or_else(|| connections.div_ceil(4).saturating_mul(3));
        Limits { in_all: connections, per_peer, reserved }
    }

    /// Waits for the stop, and for the notice after it.
    async fn stopped(&self, stop: &CancelToken) {
        stop.cancelled().await;
        if let Some(readiness) = &self.settings.readiness {
            readiness.stop();
        }
        if !self.settings.notice.is_zero() {
            sleep(self.settings.notice).await;
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// The values that a new connection needs.
struct Acceptor<'a, S> {
    connections: &'a Nursery,
    registry: Arc<Registry>,
    service: TowerToHyperService<S>,
    unread: Duration,
    times: Times,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ServerConfig>>,
    origin: Instant,
    counts: &'a Arc<Counts>,
    /// Each response after the stop is the last one of its connection.
    stop: CancelToken,
    /// Cancelled after the notice: each connection then ends after its current request.
    drain: CancelToken,
}

impl<S, B> Acceptor<'_, S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// Accepts one connection and serves it. If it is dropped while the connection waits for a slot, the connection is
    /// closed.
    async fn accept<L: Listener>(&self, listener: &mut L) {
        match listener.accept().await {
            Ok((stream, peer)) => self.admit::<L>(stream, peer).await,
            Err(error) => {
                let of_the_client = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionRefused
                );
                if !of_the_client {
                    tracing::error!(%error, "cannot accept connections; trying again");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Serves the connections in the backlog, up to the limit, and closes the listener.
    fn take_backlog<L: Listener>(&self, listener: L) {
        for (stream, peer) in listener.close(self.registry.most_open()) {
            let state = Arc::new(ConnectionState::new(self.origin));
            if let Admission::Admitted(place) = self.registry.admit(ip(peer), &state) {
                self.serve::<L>(stream, peer, state, place);
            }
        }
    }

    async fn admit<L: Listener>(&self, stream: L::Stream, peer: Option<SocketAddr>) {
        let state = Arc::new(ConnectionState::new(self.origin));
        loop {
            let open = self.registry.open();
            match self.registry.admit(ip(peer), &state) {
                Admission::Admitted(place) => return self.serve::<L>(stream, peer, state, place),
                Admission::TooManyOfPeer => {
                    self.counts.refused();
                    tracing::debug!(?peer, "closing a connection: its address is at its limit");
                    return;
                }
                Admission::Full => {
                    // Checks again, whether or not a connection ended.
                    let _ended = timeout(LOOK_AGAIN, self.registry.fewer_than(open)).await;
                }
            }
        }
    }

    fn serve<L: Listener>(
        &self,
        stream: L::Stream,
        peer: Option<SocketAddr>,
        state: Arc<ConnectionState>,
        place: Place,
    ) {
        if let Err(error) = L::set_up(&stream, self.unread) {
            tracing::debug!(%error, "cannot set the options of a socket");
        }
        #[cfg(feature = "tls")]
        let stream = Secured::new(stream, self.tls.as_ref());
        let stream = Watched::new(WriteDeadline::new(stream, self.unread), Arc::clone(&state));
        let service = Answering {
            service: self.service.clone(),
            peer,
            is_reserved: place.is_reserved,
            state: Arc::clone(&state),
            stop: self.stop.clone(),
        };
        let connection =
            http1::Builder::new().max_buf_size(MOST_BUFFERED).serve_connection(TokioIo::new(stream), service);
        let (drain, times, counted) = (self.drain.clone(), self.times, Counted::new(self.counts));
        self.connections.spawn("http connection", async move {
            let _held = (place, counted);
            drive(connection, &state, &drain, times).await;
        });
    }
}

fn ip(peer: Option<SocketAddr>) -> Option<IpAddr> {
    peer.map(|peer| peer.ip())
}
