use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::kept::Open;

/// The transport of a connection.
pub(crate) struct Transport {
    stream: Stream,
    /// A proxy forwards the requests, which name the host in their first line.
    is_forwarded: bool,
}

enum Stream {
    /// Counted as open while it exists.
    Tcp(TcpStream, #[expect(dead_code, reason = "it counts by being there")] Open),
    /// A stream that the caller provides.
    Given(Box<dyn Duplex>),
}

impl Transport {
    pub(super) fn tcp(stream: TcpStream, open: Open) -> Self {
        Self { stream: Stream::Tcp(stream, open), is_forwarded: false }
    }

    pub(super) fn given(stream: Box<dyn Duplex>) -> Self {
        Self { stream: Stream::Given(stream), is_forwarded: false }
    }

    #[cfg(feature = "proxy")]
    pub(super) fn forwarded(self) -> Self {
        Self { is_forwarded: true, ..self }
    }
}

/// A byte stream in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

macro_rules! each {
    ($transport:expr, $stream:ident => $call:expr) => {
        match &mut $transport.get_mut().stream {
            Stream::Tcp($stream, _) => $call,
            Stream::Given($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream, _) => stream.is_write_vectored(),
            Stream::Given(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        let connected = match &self.stream {
            Stream::Tcp(stream, _) => stream.connected(),
            Stream::Given(_) => Connected::new(),
        };
        connected.proxy(self.is_forwarded)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.stream {
            Stream::Tcp(..) => "Transport(TCP)",
            Stream::Given(_) => "Transport(given)",
        })
    }
}
