use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
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
use motet::task::{CancelToken, Either, Name, Nursery, Policy, Reason, Scope, ScopeError, race, timeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::answering::Answering;
use super::connection::{Times, Watched, drive};
use super::phase::ConnectionState;
use super::registry::{Admission, Limits, Place, Registry};
use super::socket;
use super::stats::{Counted, Counts};
use super::write_deadline::WriteDeadline;
use super::{Readiness, ServerStats};
use crate::client::BoxError;

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where every connection is at a request, a new one looks again after this whether one is idle.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1, with every connection a task of a scope.
///
/// The time and the size of a request's body are for its handler to limit, which alone knows what is usual. An answer
/// that has no end of its own, as of server-sent events, is for its handler to end when the server is told to stop: it
/// holds the end up for the whole grace, and is cut off then.
///
/// Clones have the same settings, and one count of connections.
///
/// # Too many connections
/// Where all places are taken, a new connection gets the place of the one that has been without a request for longest: a
/// client that opens connections and sends nothing keeps no one out. Only where every connection is at a request do new
/// ones wait in the kernel's queue. One address may have three quarters of the places, unless set otherwise.
///
/// # Defaults
/// | | | |
/// |---|---|---|
/// | connections | 4096 | |
/// | of these, from one address | 3072 | of IPv6, from one /64 |
/// | reserved connections | none | |
/// | time for a request's headers | 30 s | |
/// | time of an idle connection | 75 s | proxies in front of it keep theirs for 60 s, and must be the first to close |
/// | time in which a client takes nothing of its answer | 30 s | |
/// | notice before the listener is closed | none | |
/// | grace for requests under way | 20 s | |
///
/// A time of [`Duration::MAX`] means never.
///
/// # Examples
/// See [`ApiClient`](crate::ApiClient).
#[derive(Debug, Clone)]
#[must_use = "a server does nothing until it serves"]
pub struct Server {
    name: Option<Name>,
    connections: usize,
    per_peer: Option<usize>,
    reserved: usize,
    headers: Duration,
    idle: Duration,
    unread: Duration,
    notice: Duration,
    grace: Duration,
    readiness: Option<Readiness>,
    counts: Arc<Counts>,
}

/// How a server came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Served {
    /// Every request was answered.
    All,
    /// Their time was over, and so many connections were closed with a request under way.
    Cut {
        /// How many.
        connections: usize,
    },
}

/// The address of the client, among the extensions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Among the extensions of a request whose connection has a [reserved](Server::reserved_connections) place: all others
/// are at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved;

impl Server {
    /// Makes a server with the defaults.
    pub fn new() -> Self {
        Self {
            name: None,
            connections: 4_096,
            per_peer: None,
            reserved: 0,
            headers: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            unread: Duration::from_secs(30),
            notice: Duration::ZERO,
            grace: Duration::from_secs(20),
            readiness: None,
            counts: Arc::default(),
        }
    }

    /// Names the server, and shows it in snapshots while it serves.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how many connections there may be.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server without connections serves no one");
        self.connections = connections;
        self
    }

    /// Sets how many connections one address may have, of IPv6 one /64. Where it has as many, and all are at a request,
    /// a further one is closed.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn max_connections_per_peer(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server without connections serves no one");
        self.per_peer = Some(connections);
        self
    }

    /// Sets how many connections there may be beyond the maximum, for requests that are always to be answered, as for
    /// health. Their requests have [`Reserved`] among their extensions, by which the service refuses all others, and each
    /// is the last of its connection.
    pub fn reserved_connections(mut self, connections: usize) -> Self {
        self.reserved = connections;
        self
    }

    /// Sets how long a client may take for the headers of a request: of the first one from when it connects, of another
    /// from its first byte.
    ///
    /// # Panics
    /// If it is zero.
    #[track_caller]
    pub fn header_timeout(mut self, within: Duration) -> Self {
        assert!(!within.is_zero(), "a client has no time for the headers of a request");
        self.headers = within;
        self
    }

    /// Sets how long a connection may be without a request before it is closed. Zero closes each after its answer.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Closes the connection of a client that has taken nothing of its answer for so long; on Linux also of one that is
    /// gone without a word.
    ///
    /// # Panics
    /// If it is zero.
    #[track_caller]
    pub fn unread_timeout(mut self, within: Duration) -> Self {
        assert!(!within.is_zero(), "a client has no time to take its answer");
        self.unread = within;
        self
    }

    /// Says here, from the stop on, that the server is not ready.
    pub fn readiness(mut self, readiness: &Readiness) -> Self {
        self.readiness = Some(readiness.clone());
        self
    }

    /// Goes on taking connections for so long after the stop: until whoever sends them has asked whether it is ready.
    /// Zero closes the listener at once.
    pub fn notice(mut self, time: Duration) -> Self {
        self.notice = time;
        self
    }

    /// Gives requests under way so long to end, once no further ones are taken. Zero closes their connections at once.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Gives what the server knows.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.counts.stats()
    }

    /// Serves until it is told to stop, and returns when the last connection has ended.
    ///
    /// `service` is any service of tower, of which each request has a clone that is ready: an axum `Router`, or a
    /// [`Handler`](motet::middleware::Handler) through [`bridge::service`](crate::bridge::service). It finds
    /// the [`Peer`] among the request's extensions. One that panics ends its connection, and no other.
    ///
    /// # Cancel safety
    /// Every connection is closed. As with any scope whose future is dropped, the scope around it waits for their tasks.
    pub async fn serve<S, B>(&self, listener: TcpListener, service: S, stop: CancelToken) -> Served
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        // A handler that panics ends its own connection, and no other.
        let connections = Scope::options().name("http connections").policy(Policy::Isolate);
        let cut = AtomicUsize::new(0);
        let served = connections.run(async |n: &Nursery| {
            let _shown = self.name.clone().map(|name| {
                let counts = Arc::clone(&self.counts);
                n.register("http server", name, move || counts.stats().shown())
            });
            let left = self.accept_all(n, listener, service, stop).await;
            cut.store(left, Ordering::Relaxed);
            if left > 0 {
                tracing::warn!(connections = left, "closing connections whose requests did not finish");
                n.cancel(Reason::requested("their time is over"));
            }
            Ok(())
        });
        match served.await {
            Ok(()) | Err(ScopeError::Cancelled { .. }) => {}
            Err(error) => tracing::error!(%error, "the server did not end in order"),
        }
        match cut.into_inner() {
            0 => Served::All,
            connections => Served::Cut { connections },
        }
    }

    /// Returns how many connections are open when their time is over.
    async fn accept_all<S, B>(
        &self,
        connections: &Nursery,
        listener: TcpListener,
        service: S,
        stop: CancelToken,
    ) -> usize
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let acceptor = Acceptor {
            connections,
            registry: Registry::new(self.limits()),
            service: TowerToHyperService::new(service),
            unread: self.unread,
            times: Times { head: self.headers, idle: self.idle },
            origin: Instant::now(),
            counts: &self.counts,
            drain: CancelToken::new(),
            stop: stop.clone(),
        };
        let notice = self.stopped(&stop);
        let mut notice = std::pin::pin!(notice);
        loop {
            match race(notice.as_mut(), acceptor.accept(&listener)).await {
                Either::Left(()) => break,
                Either::Right(()) => {}
            }
        }
        acceptor.take_backlog(listener);
        acceptor.drain.cancel(Reason::requested("the server is stopping"));
        match timeout(self.grace, acceptor.registry.all_end()).await {
            Ok(()) => 0,
            Err(_) => acceptor.registry.open(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            in_all: self.connections,
            per_peer: self.per_peer.unwrap_or_else(|| self.connections.div_ceil(4).saturating_mul(3)),
            reserved: self.reserved,
        }
    }

    /// Told to stop, and the notice is over.
    async fn stopped(&self, stop: &CancelToken) {
        stop.cancelled().await;
        if let Some(readiness) = &self.readiness {
            readiness.stop();
        }
        if !self.notice.is_zero() {
            sleep(self.notice).await;
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// What a new connection needs.
struct Acceptor<'a, S> {
    connections: &'a Nursery,
    registry: Arc<Registry>,
    service: TowerToHyperService<S>,
    unread: Duration,
    times: Times,
    origin: Instant,
    counts: &'a Arc<Counts>,
    /// Answers say from here on that they are the last of their connection.
    stop: CancelToken,
    /// Connections end from here on.
    drain: CancelToken,
}

impl<S, B> Acceptor<'_, S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// Accepts one connection and serves it. Dropped while the connection waits for a place, it closes it.
    async fn accept(&self, listener: &TcpListener) {
        match listener.accept().await {
            Ok((stream, peer)) => self.admit(stream, peer).await,
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

    /// Serves the connections that clients have opened and that no one has accepted yet, and closes the listener.
    fn take_backlog(&self, listener: TcpListener) {
        // tokio knows of them only once its driver has run; the kernel knows now.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            let state = Arc::new(ConnectionState::new(self.origin));
            if let (Ok(stream), Admission::Admitted(place)) = (stream, self.registry.admit(peer.ip(), &state))
            {
                self.serve(stream, peer, state, place);
            }
        }
    }

    async fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let state = Arc::new(ConnectionState::new(self.origin));
        loop {
            let open = self.registry.open();
            match self.registry.admit(peer.ip(), &state) {
                Admission::Admitted(place) => return self.serve(stream, peer, state, place),
                Admission::TooManyOfPeer => {
                    self.counts.refused();
                    tracing::debug!(%peer, "a connection is closed: its address has as many as it may");
                    return;
                }
                Admission::Full => {
                    // Ended or not, it looks again.
                    let _ended = timeout(LOOK_AGAIN, self.registry.fewer_than(open)).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, state: Arc<ConnectionState>, place: Place) {
        if let Err(error) = socket::set_up(&stream, self.unread) {
            tracing::debug!(%error, "a connection was gone before it was served");
        }
        let stream = Watched::new(WriteDeadline::new(stream, self.unread), Arc::clone(&state));
        let service = Answering {
            service: self.service.clone(),
            peer,
            is_reserved: place.is_reserved,
            state: Arc::clone(&state),
            stop: self.stop.clone(),
        };
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let (drain, times, counted) = (self.drain.clone(), self.times, Counted::new(self.counts));
        drop(self.connections.spawn("http connection", async move {
            let _held = (place, counted);
            drive(connection, &state, &drain, times).await;
        }));
    }
}
