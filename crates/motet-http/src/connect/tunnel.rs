//! A tunnel through a proxy to a host (RFC 9110, 9.3.6).

use std::io;
use std::str;

use http::{StatusCode, Uri};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::dialer::port_of;
use super::error::{ConnectError, Fault, fault_of};
use super::proxy::Via;

/// The most bytes of the answer of a proxy, interim answers included.
const MOST_HEAD: usize = 16 << 10;

/// The reason why a proxy has opened no tunnel.
#[derive(Debug, Error)]
pub(super) enum TunnelError {
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is not HTTP/1.1, or has more than {MOST_HEAD} bytes")]
    NotHttp,
    #[error("the connection to it failed")]
    Io(#[from] io::Error),
}

impl TunnelError {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Status(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => Fault::Settings,
            Self::Status(_) | Self::NotHttp => Fault::Remote,
            Self::Io(error) => fault_of(error),
        }
    }
}

/// Requests a tunnel to the host of `uri` from the proxy at the other end of `stream`. Afterwards the stream is that of the host.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    via: &Via,
    uri: &Uri,
) -> Result<(), ConnectError> {
    let host = format!("{}:{}", uri.host().ok_or(ConnectError::NoHost)?, port_of(uri));
    match ask(stream, via, &host).await {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => {
            Err(ConnectError::Tunnel { proxy: via.name(), host, source: TunnelError::Status(status) })
        }
        Err(source) => Err(ConnectError::Tunnel { proxy: via.name(), host, source }),
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    via: &Via,
    host: &str,
) -> Result<StatusCode, TunnelError> {
    let mut request = format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
    if let Some(credentials) = via.credentials() {
        request.extend_from_slice(b"proxy-authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    for _ in 0..MOST_HEAD {
        // Byte by byte: the next one may be the first byte of the host.
        head.push(stream.read_u8().await?);
        if head.ends_with(b"\r\n\r\n") {
            match status_of(&head).ok_or(TunnelError::NotHttp)? {
                status if status.is_informational() => head.clear(),
                status => return Ok(status),
            }
        }
    }
    Err(TunnelError::NotHttp)
}

/// Returns the status of a response head of HTTP/1.
fn status_of(head: &[u8]) -> Option<StatusCode> {
    let line = str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return None;
    }
    StatusCode::from_bytes(rest.get(..3)?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::super::Proxy;
    use super::*;

    /// Answers a request for a tunnel with these bytes; returns the request, and the bytes that are left to the host.
    async fn answered(answer: &str) -> (Result<(), String>, String, Vec<u8>) {
        let uri = "https://a.example/x".parse().unwrap();
        let via = Proxy::new("http://me:p%40ss@proxy.example").unwrap().of(&uri).unwrap();
        let (mut client, mut proxy) = duplex(1 << 20);
        proxy.write_all(answer.as_bytes()).await.unwrap();
        proxy.shutdown().await.unwrap();
        let opened = open(&mut client, &via, &uri).await.map_err(|error| {
            let source = std::error::Error::source(&error).unwrap();
            format!("{error}: {source}")
        });
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        drop(client);
        let mut request = String::new();
        proxy.read_to_string(&mut request).await.unwrap();
        (opened, request, rest)
    }

    #[tokio::test]
    async fn tunnel_opens_after_a_success_and_takes_no_byte_of_the_host() {
        let (opened, request, rest) =
            answered("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\nx: y\r\n\r\nhello")
                .await;
        assert_eq!((opened, rest.as_slice()), (Ok(()), &b"hello"[..]));
        let first = "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n";
        // me:p@ss
        assert_eq!(request, format!("{first}proxy-authorization: Basic bWU6cEBzcw==\r\n\r\n"));
    }

    #[tokio::test]
    async fn refused_tunnel_names_proxy_host_and_status() {
        let opened = answered("HTTP/1.1 403 Forbidden\r\n\r\n").await.0;
        let said = "the proxy proxy.example does not connect to a.example:443: it answered 403 Forbidden";
        assert_eq!(opened.unwrap_err(), said);
    }

    #[tokio::test]
    async fn answer_that_is_no_head_of_http_opens_no_tunnel() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MOST_HEAD));
        for (answer, why) in [
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "is not HTTP/1.1"),
            ("HTTP/1.1 2\r\n\r\n", "is not HTTP/1.1"),
            (endless.as_str(), "is not HTTP/1.1"),
            ("HTTP/1.1 200 OK\r\n", "the connection to it failed"),
            ("", "the connection to it failed"),
        ] {
            let opened = answered(answer).await.0.unwrap_err();
            assert!(opened.contains(why), "{opened}");
        }
    }
}
