use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use super::socket;

/// A source of connections for a [`Server`](super::Server): TCP, a Unix socket, or [memory](super::MemoryListener).
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection, and returns it with the address of the client, if it has one. The limit of
    /// connections per address, and [`Peer`](super::Peer), need the address.
    ///
    /// # Cancel safety
    /// It must be safe: the server drops the future when it stops.
    ///
    /// # Errors
    /// The server reports an error, waits for a moment and tries again. A listener that can have no more connections
    /// waits without end.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;

    /// Stops listening, and returns at most `limit` of the connections that have arrived and were not accepted. The others
    /// are closed.
    fn close(self, limit: usize) -> Vec<(Self::Stream, Option<SocketAddr>)>;

    /// Prepares a connection. It is to be closed when its client acknowledges nothing for `unread`, if the transport can
    /// do that.
    ///
    /// # Errors
    /// Options cannot be set. The connection is served all the same.
    fn set_up(_stream: &Self::Stream, _unread: Duration) -> io::Result<()> {
        Ok(())
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        Self::accept(self).await.map(|(stream, peer)| (stream, Some(peer)))
    }

    fn close(self, limit: usize) -> Vec<(TcpStream, Option<SocketAddr>)> {
        // tokio sees them only after its driver has run; the kernel knows them now.
        let Ok(listener) = self.into_std() else { return Vec::new() };
        let mut backlog = Vec::new();
        // Clients may connect faster than their connections are taken.
        while backlog.len() < limit
            && let Ok((stream, peer)) = listener.accept()
        {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            backlog.extend(stream.ok().map(|stream| (stream, Some(peer))));
        }
        backlog
    }

    fn set_up(stream: &TcpStream, unread: Duration) -> io::Result<()> {
        socket::set_up(stream, unread)
    }
}

/// The file of the socket stays when the listener is closed: who created it removes it, before the next bind at the latest.
#[cfg(unix)]
impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        Self::accept(self).await.map(|(stream, _)| (stream, None))
    }

    fn close(self, limit: usize) -> Vec<(UnixStream, Option<SocketAddr>)> {
        let Ok(listener) = self.into_std() else { return Vec::new() };
        let mut backlog = Vec::new();
        while backlog.len() < limit
            && let Ok((stream, _)) = listener.accept()
        {
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            backlog.extend(stream.ok().map(|stream| (stream, None)));
        }
        backlog
    }
}
