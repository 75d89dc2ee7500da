use std::error::Error;
use std::future::ready;

/// Opens, checks and closes the connections of a [`Pool`](super::Pool).
///
/// Write the methods as `async fn`. The compiler checks at the implementation that their futures are `Send`, so code
/// that is generic over managers need not repeat the bound.
///
/// A panic in a method affects one connection, never the pool.
///
/// # Examples
/// ```
/// use motet::pool::{Manager, Recycle};
/// use std::io;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::TcpStream;
///
/// struct Cache(&'static str);
///
/// impl Manager for Cache {
///     type Connection = TcpStream;
///     type Error = io::Error;
///
///     async fn connect(&self) -> io::Result<TcpStream> {
///         TcpStream::connect(self.0).await
///     }
///
///     async fn check(&self, connection: &mut TcpStream) -> io::Result<()> {
///         connection.write_all(b"PING\r\n").await?;
///         connection.read_exact(&mut [0; 7]).await.map(drop)
///     }
///
///     fn recycle(&self, connection: &mut TcpStream) -> Recycle {
///         // No unread data may be left for the next user.
///         match connection.try_read(&mut [0]) {
///             Err(error) if error.kind() == io::ErrorKind::WouldBlock => Recycle::Keep,
///             _ => Recycle::Discard,
///         }
///     }
///
///     async fn close(&self, mut connection: TcpStream) {
///         drop(connection.shutdown().await);
///     }
/// }
/// # let _ = Cache("localhost:6379");
/// ```
pub trait Manager: Send + Sync + 'static {
    /// The type of a connection.
    type Connection: Send + 'static;

    /// The error of a failed connect or a failed check.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection.
    ///
    /// The connect runs in a task of the pool's scope, not in the caller that waits for the connection. It is dropped
    /// when its [time](super::PoolBuilder::connect_timeout) is over, when the pool closes, and when the scope cancels its
    /// services.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Checks that a connection that has been idle for a [while](super::PoolBuilder::check_after) still works, before it is
    /// used again. By default every connection passes.
    ///
    /// The check is dropped together with the caller that waits for the connection. The connection then counts as
    /// unverified, and the next caller's check starts again on the same connection. So if a protocol cannot recover
    /// from half an exchange, the connection has to record that an exchange is in progress, and fail the next check.
    fn check(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        _ = connection;
        ready(Ok(()))
    }

    /// Decides whether a returned connection may be used again. By default it may.
    ///
    /// It is called in the drop of [`Pooled`](super::Pooled), so it cannot wait: it uses only
    /// state that is already known.
    fn recycle(&self, connection: &mut Self::Connection) -> Recycle {
        _ = connection;
        Recycle::Keep
    }

    /// Closes a connection. By default the connection is dropped.
    ///
    /// The close runs in a task of the pool's scope, which waits for it. It is dropped when its
    /// [time](super::PoolBuilder::close_timeout) is over.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        drop(connection);
        ready(())
    }
}

/// The decision about a returned connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recycle {
    /// The connection goes to the next caller.
    Keep,
    /// The connection is closed, because it is broken or in a state that the next caller must not see.
    Discard,
}
