use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri, Version};
use motet::mutant;
use motet::resilience::Class;
use motet::task::timeout;
use serde::de::DeserializeOwned;

use super::error::{Decode, ErrorKind, Status};
use super::exchange::Exchange;
use super::{Error, ResponseBody, judge, retry_after};

/// A response: its status, its headers, and its body, which may still be in transit.
///
/// # Drop
/// The rest of the body is not read: the connection is closed (HTTP/1.1) or the stream is reset (HTTP/2), and the slot
/// for the host is free.
#[derive(Debug)]
pub struct Response {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    pub(super) exchange: Pin<Box<Exchange>>,
}

/// The number of bytes of a failure's body that the error contains.
const EXCERPT_BYTES: usize = 1 << 10;

/// The number of bytes of an unwanted body that are read to keep its connection. For more, a new connection is cheaper.
const DRAIN_BYTES: usize = 64 << 10;

/// The time limit of that read: a retry or an error waits for it.
const DRAIN_TIME: Duration = Duration::from_secs(1);

impl Response {
    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the headers, mutably.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Returns the version of HTTP.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the method of the request, of the last one after redirects.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.exchange.line.method
    }

    /// Returns the URL of the request, of the last one after redirects.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.exchange.line.uri
    }

    /// Returns the number of attempts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.exchange.number
    }

    /// Returns the delay that the response asks for by `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after::of(&self.headers)
    }

    /// Returns the values that middlewares attach for other middlewares.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns the values that middlewares attach, mutably.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Returns the response if its status is a success (2xx), and otherwise an error with the beginning of its body.
    ///
    /// # Cancel safety
    /// The response is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Status`].
    pub async fn success(mut self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        self.drain().await;
        let begun = self.exchange.begun();
        let excerpt = String::from_utf8_lossy(&begun[..begun.len().min(EXCERPT_BYTES)]).into_owned();
        let error = self.exchange.error(ErrorKind::Status(Status { code: self.status, excerpt }));
        Err(error.hinted(self.retry_after()).repeat(self.exchange.repeat))
    }

    /// Returns the next chunk of the body, or `None` at its end.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Transport`] and [`ErrorKind::TimedOut`]; the body then has ended.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.exchange.as_mut().chunk().await
    }

    /// Returns the body, to be streamed.
    #[must_use]
    pub fn into_body(self) -> ResponseBody {
        ResponseBody(self.exchange)
    }

    /// Reads the body to its end.
    ///
    /// # Cancel safety
    /// The response is lost.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], if it has more bytes than the client's
    /// [`max_body`](super::ApiClientBuilder::max_body); if its length is known, immediately.
    /// Otherwise like [`chunk`](Self::chunk).
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        self.fill().await?;
        Ok(self.exchange.as_mut().take_begun())
    }

    /// Reads the body to its end, as text; invalid UTF-8 is replaced by U+FFFD.
    ///
    /// # Cancel safety
    /// The response is lost.
    ///
    /// # Errors
    /// Like [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String, Error> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads the body to its end, as JSON.
    ///
    /// # Cancel safety
    /// The response is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] with the path in the document that does not match. Otherwise like
    /// [`bytes`](Self::bytes).
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        self.fill().await?;
        decode(&self.exchange.as_mut().take_begun())
            .map_err(|decode| self.exchange.error(ErrorKind::Decode(decode)))
    }

    /// Reads the whole body, if it is not too large.
    pub(super) async fn fill(&mut self) -> Result<(), Error> {
        let mut limit = self.exchange.max_body();
        if mutant!("http.no_cap") {
            limit = usize::MAX;
        }
        // The length may be known before the body is read.
        let fits = self.exchange.size_hint().lower() <= limit as u64;
        if fits && self.exchange.as_mut().fill(limit).await? && self.exchange.begun().len() <= limit {
            return Ok(());
        }
        Err(self.exchange.error(ErrorKind::TooLarge { limit }))
    }

    /// Reads the beginning of an unwanted body, so that its connection can be used again. Errors do not matter.
    pub(super) async fn drain(&mut self) {
        if !matches!(timeout(DRAIN_TIME, self.exchange.as_mut().fill(DRAIN_BYTES)).await, Ok(Ok(_))) {
            tracing::debug!(status = %self.status, "the body of a failed response is incomplete");
        }
    }

    pub(super) fn class(&self) -> Class {
        if self.status.is_success() {
            return Class::success();
        }
        judge::status(self.status, self.exchange.repeat, self.retry_after())
    }
}

fn decode<T: DeserializeOwned>(document: &[u8]) -> Result<T, Decode> {
    serde_json::from_slice(document).or_else(|_| decode_slowly(document))
}

/// Decodes again to find the path of the error. Only a failure pays for that.
#[cold]
fn decode_slowly<T: DeserializeOwned>(document: &[u8]) -> Result<T, Decode> {
    let mut document = serde_json::Deserializer::from_slice(document);
    let value = serde_path_to_error::deserialize(&mut document)
        .map_err(|error| Decode { path: error.path().to_string(), error: error.into_inner() })?;
    match document.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(Decode { path: ".".to_owned(), error }),
    }
}
