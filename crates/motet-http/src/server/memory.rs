use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use super::Listener;

/// The number of connections that wait to be accepted. Further ones wait to connect.
const BACKLOG: usize = 128;

/// The number of bytes in transit in each direction, as in a small socket buffer.
const IN_TRANSIT: usize = 64 << 10;

/// A listener in memory, for a server and its clients in one process: without sockets, a whole service runs in a test in
/// virtual time.
///
/// # Examples
/// ```
/// use axum::{Router, routing::get};
/// use motet::task::{CancelToken, Nursery, scope};
/// use motet_http::{ApiClient, MemoryListener, Server};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let (listener, connector) = MemoryListener::new();
/// let router = Router::new().route("/", get(async || "hello"));
///
/// scope(async |n: &Nursery| {
///     n.service("server", async move { Server::new().serve(listener, router, CancelToken::new()).await });
///
///     let dial = move |_host| connector.connect();
///     let api = ApiClient::builder(n).base_url("http://service").connect_by(dial).build().unwrap();
///     assert_eq!(api.get("/").fetch().await.unwrap().text().await.unwrap(), "hello");
///     Ok(())
/// })
/// .await
/// # .unwrap();});
/// ```
pub struct MemoryListener(mpsc::Receiver<DuplexStream>);

/// Connects to a [`MemoryListener`]. It is a handle: clones connect to the same listener.
#[derive(Clone)]
pub struct MemoryConnector(mpsc::Sender<DuplexStream>);

impl MemoryListener {
    /// Creates a listener, and the handle that connects to it.
    #[must_use]
    pub fn new() -> (Self, MemoryConnector) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(receiver), MemoryConnector(sender))
    }
}

impl MemoryConnector {
    /// Opens a connection. It waits while 128 connections have not been accepted.
    ///
    /// # Cancel safety
    /// Safe: no connection is opened.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`]: the listener is closed.
    pub fn connect(&self) -> impl Future<Output = io::Result<DuplexStream>> + Send + use<> {
        let backlog = self.0.clone();
        async move {
            let slot = backlog.reserve().await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            let (client, server) = duplex(IN_TRANSIT);
            slot.send(server);
            Ok(client)
        }
    }
}

impl Listener for MemoryListener {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream, None)),
            // Every connector is gone, so that no connection can come any more.
            None => std::future::pending().await,
        }
    }

    fn close(mut self, limit: usize) -> Vec<(DuplexStream, Option<SocketAddr>)> {
        self.0.close();
        std::iter::from_fn(|| self.0.try_recv().ok()).take(limit).map(|stream| (stream, None)).collect()
    }
}

impl fmt::Debug for MemoryListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryListener").field("waiting", &self.0.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConnector").field("is_closed", &self.0.is_closed()).finish_non_exhaustive()
    }
}
