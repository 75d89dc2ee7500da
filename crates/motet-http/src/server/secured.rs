//! A connection with TLS.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// A connection with TLS, if the server has a configuration of it.
///
/// The handshake is driven by the reads and writes of the connection: the timeout of the headers covers it, and no client
/// delays the accept of another one.
pub(super) enum Secured<S> {
    Plain(S),
    Handshake(Box<Accept<S>>),
    Tls(Box<TlsStream<S>>),
    /// The handshake has failed.
    Failed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Secured<S> {
    pub(super) fn new(stream: S, config: Option<&Arc<ServerConfig>>) -> Self {
        match config {
            Some(config) => Self::Handshake(Box::new(TlsAcceptor::from(Arc::clone(config)).accept(stream))),
            None => Self::Plain(stream),
        }
    }

    /// Waits for the end of the handshake.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Handshake(handshake) = self {
            let ended = ready!(Pin::new(&mut **handshake).poll(cx));
            *self = Self::Failed;
            *self = Self::Tls(Box::new(ended?));
        }
        Poll::Ready(Ok(()))
    }
}

/// Calls a method of the stream, after the handshake.
macro_rules! after_handshake {
    ($secured:expr, $cx:expr, $stream:ident => $call:expr) => {{
        let this = $secured.get_mut();
        ready!(this.poll_handshake($cx))?;
        match this {
            Secured::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Secured::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
            Secured::Handshake(_) | Secured::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }};
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        after_handshake!(self, cx, stream => stream.poll_read(cx, buf))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        after_handshake!(self, cx, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        after_handshake!(self, cx, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            // rustls copies the pieces into its records.
            Self::Handshake(_) | Self::Tls(_) => true,
            Self::Failed => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        after_handshake!(self, cx, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }
}
