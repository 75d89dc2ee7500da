use std::error::Error;
use std::future::ready;

/// Makes, checks and closes the connections of a [`Pool`](super::Pool).
///
/// Write the methods as plain `async fn`s: that their futures are `Send` is checked where they are implemented, and
/// known to whoever uses the pool.
///
/// A panic in any of them harms one connection, never the pool.
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
///         // Nothing may be left to be read by the next.
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
    /// What is pooled.
    type Connection: Send + 'static;

    /// Why a connection could not be made, or is not fit for use.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection.
    ///
    /// It runs in a task of the pool's scope, not of whoever wants the connection. It is dropped when its
    /// [time](super::Builder::connect_timeout) is up, when the pool closes, and when the scope cancels its services.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Checks that a connection still works, before it is used again after it was idle for a
    /// [while](super::Builder::check_after). By default every connection passes.
    ///
    /// It is dropped with whoever wants the connection, which then counts as unchecked: the next user's check begins
    /// anew on the same connection. So a protocol in which half an exchange cannot be left behind has to note that it
    /// is in the middle of one, and fail the next check.
    fn check(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        _ = connection;
        ready(Ok(()))
    }

    /// Tells, when a connection is returned, whether it may be used again. By default it may.
    ///
    /// Called in the drop of [`Pooled`](super::Pooled), so it does not wait: it looks at what is known already.
    fn recycle(&self, connection: &mut Self::Connection) -> Recycle {
        _ = connection;
        Recycle::Keep
    }

    /// Closes a connection. By default it is dropped.
    ///
    /// It runs in a task of the pool's scope, which waits for it, and is dropped when its
    /// [time](super::Builder::close_timeout) is up.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        drop(connection);
        ready(())
    }
}

/// What becomes of a connection that is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recycle {
    /// It goes to the next user.
    Keep,
    /// It is closed: broken, or in a state that the next user must not see.
    Discard,
}
