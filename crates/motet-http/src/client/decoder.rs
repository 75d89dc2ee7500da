//! Decodes a response body piece by piece.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

#[cfg(feature = "brotli")]
use async_compression::tokio::bufread::BrotliDecoder;
#[cfg(feature = "gzip")]
use async_compression::tokio::bufread::GzipDecoder;
#[cfg(feature = "zstd")]
use async_compression::tokio::bufread::ZstdDecoder;
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body::{Body as _, Frame};
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::task::coop::poll_proceed;

use super::BoxError;
use crate::connect::ReceivedBody;

/// The most bytes that one step decodes. A few coded bytes may stand for gigabytes: the reader decides after each step
/// whether to go on.
const STEP: usize = 32 << 10;

/// The free memory below which the buffer of the steps is renewed: smaller steps would cost more than they save.
const LEAST_STEP: usize = 4 << 10;

/// The largest window of Zstandard that a client of HTTP has to support, as a power of two (RFC 9659): 8 MiB. The window
/// is memory that the response asks for; the format allows more than a terabyte.
#[cfg(feature = "zstd")]
const MAX_WINDOW_LOG: u32 = 23;

/// A coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    #[cfg(feature = "brotli")]
    Brotli,
    #[cfg(feature = "gzip")]
    Gzip,
    #[cfg(feature = "zstd")]
    Zstd,
}

/// The body is not what its `Content-Encoding` states.
#[derive(Debug, Error)]
#[error("the body of the response is not valid {coding}")]
struct InvalidCodingError {
    coding: &'static str,
    source: io::Error,
}

impl Coding {
    /// Returns the only coding of a response, or `None` if there is none, an unknown one, or several.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut names = headers.get_all(CONTENT_ENCODING).iter();
        let (name, None) = (names.next()?.to_str().ok()?.trim(), names.next()) else { return None };
        #[cfg(feature = "brotli")]
        if name.eq_ignore_ascii_case("br") {
            return Some(Self::Brotli);
        }
        // `x-gzip` is the same (RFC 9110, 8.4.1.3).
        #[cfg(feature = "gzip")]
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        #[cfg(feature = "zstd")]
        if name.eq_ignore_ascii_case("zstd") {
            return Some(Self::Zstd);
        }
        None
    }

    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "brotli")]
            Self::Brotli => "br",
            #[cfg(feature = "gzip")]
            Self::Gzip => "gzip",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        }
    }
}

/// A body that is decoded while it is read. Trailers are dropped.
pub(super) struct Decoder {
    coding: Coding,
    reader: Pin<Box<dyn AsyncRead + Send>>,
    /// `true` if the body ended without a byte.
    is_empty: Arc<AtomicBool>,
    /// Memory for the next steps, all of it initialized.
    free: BytesMut,
}

impl Decoder {
    pub(super) fn new(coding: Coding, body: ReceivedBody) -> Self {
        let is_empty = Arc::<AtomicBool>::default();
        let source = Source { body, chunk: Bytes::new(), has_begun: false, is_empty: Arc::clone(&is_empty) };
        let reader: Pin<Box<dyn AsyncRead + Send>> = match coding {
            #[cfg(feature = "brotli")]
            Coding::Brotli => {
                let mut decoder = BrotliDecoder::new(source);
                // Without it, the end of the body is not read, and the connection may not be used again.
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            #[cfg(feature = "gzip")]
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(source);
                // Several members in a row are one body (RFC 1952, 2.2).
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                let window = async_compression::zstd::DParameter::window_log_max(MAX_WINDOW_LOG);
                let mut decoder = ZstdDecoder::with_params(source, &[window]);
                // And several frames (RFC 8878, 3.1).
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        };
        Self { coding, reader, is_empty, free: BytesMut::new() }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.free.len() < LEAST_STEP {
            self.free = BytesMut::zeroed(STEP);
        }
        let mut step = ReadBuf::new(&mut self.free);
        let read = ready!(self.reader.as_mut().poll_read(cx, &mut step));
        let length = step.filled().len();
        Poll::Ready(match read {
            Ok(()) if length == 0 => None,
            Ok(()) => Some(Ok(Frame::data(self.free.split_to(length).freeze()))),
            // No coding codes nothing as nothing, but servers send an empty body so.
            Err(_) if self.is_empty.load(Ordering::Relaxed) => None,
            Err(error) => Some(Err(self.explain(error))),
        })
    }

    /// Distinguishes a connection that failed from a body that does not decode.
    fn explain(&self, error: io::Error) -> BoxError {
        match error.downcast::<hyper::Error>() {
            Ok(error) => error.into(),
            Err(source) => InvalidCodingError { coding: self.coding.name(), source }.into(),
        }
    }
}

/// The coded body as a reader.
struct Source {
    body: ReceivedBody,
    /// The rest of the current chunk.
    chunk: Bytes,
    has_begun: bool,
    is_empty: Arc<AtomicBool>,
}

impl AsyncBufRead for Source {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.chunk.is_empty() {
            // A body that decodes to nothing is read on and on: its deadlines must have their turn.
            let unit = ready!(poll_proceed(cx));
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            unit.made_progress();
            match frame.transpose().map_err(io::Error::other)?.map(Frame::into_data) {
                Some(Ok(chunk)) => {
                    this.has_begun |= !chunk.is_empty();
                    this.chunk = chunk;
                }
                Some(Err(_trailers)) => {}
                None => {
                    this.is_empty.store(!this.has_begun, Ordering::Relaxed);
                    break;
                }
            }
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.chunk.advance(amount);
    }
}

impl AsyncRead for Source {
    /// The decoders read the buffer of the source alone.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
        let length = chunk.len().min(buf.remaining());
        buf.put_slice(&chunk[..length]);
        self.consume(length);
        Poll::Ready(Ok(()))
    }
}
