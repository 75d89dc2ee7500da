//! The socket options of a connection.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// Disables Nagle's algorithm. On Linux, also closes a connection whose client acknowledges nothing for `unread`.
pub(super) fn set_up(stream: &TcpStream, unread: Duration) -> io::Result<()> {
    // Responses are small; waiting to fill a packet only adds delay.
    stream.set_nodelay(true)?;
    give_up_after(stream, unread)
}

/// Sets how long the kernel retransmits. Otherwise small writes to a client that is gone, such as the keep-alives of
/// server-sent events, stay in the socket for a quarter of an hour, and no write waits for them.
#[cfg(target_os = "linux")]
fn give_up_after(stream: &TcpStream, unread: Duration) -> io::Result<()> {
    // 0 would be the default of the system, and the option is an `int`.
    let millis = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX).clamp(1, i32::MAX.cast_unsigned());
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?)
}

#[cfg(not(target_os = "linux"))]
fn give_up_after(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::net::sockopt::tcp_user_timeout;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn socket_gets_nodelay_and_unread_timeout_as_user_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        for (unread, millis) in [
            (Duration::from_secs(30), 30_000),
            (Duration::ZERO, 1),
            // A larger value saturates.
            (Duration::MAX, i32::MAX.cast_unsigned()),
        ] {
            set_up(&stream, unread).unwrap();
            assert_eq!(tcp_user_timeout(&stream).unwrap(), millis);
            assert!(stream.nodelay().unwrap());
        }
    }
}
