//! Content codings (RFC 9110, 8.4): the codings that a client accepts, and the decoding of response bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, RANGE};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};

use super::BoxError;
#[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
use super::decoder::{Coding, Decoder};
use crate::connect::ReceivedBody;

/// The codings that are compiled in, best first.
const ACCEPTED: &str = match (cfg!(feature = "zstd"), cfg!(feature = "brotli"), cfg!(feature = "gzip")) {
    (true, true, true) => "zstd, br, gzip",
    (true, true, false) => "zstd, br",
    (true, false, true) => "zstd, gzip",
    (false, true, true) => "br, gzip",
    (true, false, false) => "zstd",
    (false, true, false) => "br",
    (false, false, true) => "gzip",
    (false, false, false) => "",
};

/// Whether a client asks for compressed bodies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codings {
    is_on: bool,
}

impl Codings {
    /// Adds `Accept-Encoding` to the headers of all requests, unless it is switched off or the client has its own
    /// value.
    pub(super) fn new(is_wanted: bool, headers: &mut HeaderMap) -> Self {
        let is_on = is_wanted && !ACCEPTED.is_empty() && !headers.contains_key(ACCEPT_ENCODING);
        if is_on {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        }
        Self { is_on }
    }

    /// Returns `true` if the response to a request with these headers is decoded: if `Accept-Encoding` has the value of
    /// the client. A request for a range asks for a part of the body as it is, so the header is removed.
    pub(super) fn apply(self, headers: &mut HeaderMap) -> bool {
        if !self.is_on || headers.get(ACCEPT_ENCODING).is_none_or(|value| value != ACCEPTED) {
            return false;
        }
        let is_part = headers.contains_key(RANGE);
        if is_part {
            headers.remove(ACCEPT_ENCODING);
        }
        !is_part
    }
}

/// The unread part of a response body.
pub(super) enum Rest {
    AsSent(ReceivedBody),
    #[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
    Decoded(Box<Decoder>),
}

impl Rest {
    /// Decodes the body if it has one known coding, and then removes the headers about the coded body.
    #[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
    pub(super) fn decoded(body: ReceivedBody, headers: &mut HeaderMap) -> Self {
        use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
        match Coding::of(headers) {
            // The response to a `HEAD` has the headers of a body, and none.
            Some(coding) if !body.is_end_stream() => {
                headers.remove(CONTENT_ENCODING);
                headers.remove(CONTENT_LENGTH);
                Self::Decoded(Box::new(Decoder::new(coding, body)))
            }
            _ => Self::AsSent(body),
        }
    }

    #[cfg(not(any(feature = "brotli", feature = "gzip", feature = "zstd")))]
    pub(super) fn decoded(body: ReceivedBody, _: &mut HeaderMap) -> Self {
        Self::AsSent(body)
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::AsSent(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            #[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
            Self::Decoded(decoder) => decoder.poll_frame(cx),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::AsSent(body) => body.is_end_stream(),
            #[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
            Self::Decoded(_) => false,
        }
    }

    /// The length of a decoded body is not known.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::AsSent(body) => body.size_hint(),
            #[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
            Self::Decoded(_) => SizeHint::new(),
        }
    }
}
