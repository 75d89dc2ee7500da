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
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use motet::resilience::{Bulkhead, BulkheadPermit};
use motet::task::{CancelToken, Either, Name, Nursery, Policy, Reason, Scope, ScopeError, race, timeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tower_service::Service;

use super::socket;
use super::stats::{Counted, Counts};
use super::write_deadline::WriteDeadline;
use super::{Readiness, ServerStats};
use crate::client::BoxError;

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1, with every connection a task of a scope.
///
/// The time and the size of a request's body are for its handler to limit, which alone knows what is usual. An answer
/// that has no end of its own, as of server-sent events, is for its handler to end when the server is told to stop: it
/// holds the end up for the whole grace, and is cut off then.
///
/// Clones have the same settings, and one count of connections.
///
/// # Defaults
/// | | | |
/// |---|---|---|
/// | connections | 4096 | further ones wait in the kernel's queue |
/// | time for a request's headers, and of an idle connection | 30 s | |
/// | time in which a client takes nothing of its answer | 30 s | |
/// | notice before the listener is closed | none | |
/// | grace for requests under way | 20 s | |
///
/// # Examples
/// See [`ApiClient`](crate::ApiClient).
#[derive(Debug, Clone)]
#[must_use = "a server does nothing until it serves"]
pub struct Server {
    name: Option<Name>,
    connections: usize,
    headers: Duration,
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

impl Server {
    /// Makes a server with the defaults.
    pub fn new() -> Self {
        Self {
            name: None,
            connections: 4_096,
            headers: Duration::from_secs(30),
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

    /// Has up to so many connections.
    ///
    /// # Panics
    /// If it is none, or more than a semaphore of tokio counts.
    #[track_caller]
    pub fn max_connections(mut self, most: usize) -> Self {
        assert!(Bulkhead::builder(most).build().is_ok(), "from 1 to usize::MAX / 8 connections");
        self.connections = most;
        self
    }

    /// Gives a client so long for the headers of a request, and an idle connection so long to begin one.
    pub fn header_timeout(mut self, within: Duration) -> Self {
        self.headers = within;
        self
    }

    /// Closes the connection of a client that has taken nothing of its answer for so long; on Linux also of one that is
    /// gone without a word.
    pub fn unread_timeout(mut self, within: Duration) -> Self {
        self.unread = within;
        self
    }

    /// Says here, from the stop on, that the server is not ready.
    pub fn readiness(mut self, readiness: &Readiness) -> Self {
        self.readiness = Some(readiness.clone());
        self
    }

    /// Goes on taking connections for so long after the stop: until whoever sends them has asked whether it is ready.
    pub fn notice(mut self, time: Duration) -> Self {
        self.notice = time;
        self
    }

    /// Gives requests under way so long to end, once no further ones are taken.
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

    /// Gives how many connections have a request under way when their time is over.
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
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.headers);
        // One waits for a place: the accept loop, for as long as it takes.
        let places = Bulkhead::builder(self.connections).queue(1, Duration::MAX).build();
        let places = places.expect("checked when it was set");
        let graceful = GracefulShutdown::new();
        let service = TowerToHyperService::new(service);
        let notice = self.stopped(&stop);
        let mut notice = std::pin::pin!(notice);
        loop {
            let (stream, peer, place) =
                match race(notice.as_mut(), accept(&listener, &places, self.unread)).await {
                    Either::Left(()) => break,
                    Either::Right(Some(accepted)) => accepted,
                    Either::Right(None) => continue,
                };
            let stream = TokioIo::new(WriteDeadline::new(stream, self.unread));
            let service = WithPeer { service: service.clone(), peer };
            let connection = graceful.watch(http.serve_connection(stream, service));
            let counted = Counted::new(&self.counts);
            drop(connections.spawn("http connection", async move {
                let _held = (place, counted);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
            }));
        }
        drop(listener);
        match timeout(self.grace, graceful.shutdown()).await {
            Ok(()) => 0,
            Err(_) => places.stats().taken,
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

type Accepted = (TcpStream, SocketAddr, BulkheadPermit<'static>);

async fn accept(listener: &TcpListener, places: &Bulkhead, unread: Duration) -> Option<Accepted> {
    let place = places.acquire().await.ok()?.into_owned();
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(error) = socket::set_up(&stream, unread) {
                tracing::debug!(%error, "a connection was gone before it was served");
            }
            Some((stream, peer, place))
        }
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
            None
        }
    }
}

/// Tells each request whom it is from.
struct WithPeer<S> {
    service: S,
    peer: SocketAddr,
}

impl<S: hyper::service::Service<Request<Incoming>>> hyper::service::Service<Request<Incoming>>
    for WithPeer<S>
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(Peer(self.peer));
        self.service.call(request)
    }
}
