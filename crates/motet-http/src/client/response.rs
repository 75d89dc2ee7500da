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

/// An answer: its status and headers, and its body, which may still be on its way.
///
/// # Drop
/// What of the body was not read is not: the connection is closed (HTTP/1.1), or the stream reset (HTTP/2), and the place
/// for the host is free.
#[derive(Debug)]
pub struct Response {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    pub(super) exchange: Pin<Box<Exchange>>,
}

/// Of a failure's body, this much is told with the error.
const EXCERPT_BYTES: usize = 1 << 10;

/// A body that is of no interest is read so far, for the connection to be used again; beyond, a new one is cheaper.
const DRAIN_BYTES: usize = 64 << 10;

/// And for no longer than this: who waits for it waits for a retry, or for an error.
const DRAIN_TIME: Duration = Duration::from_secs(1);

impl Response {
    /// Gives the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Gives the headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Gives the headers, to be changed by a middleware.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Gives the version of HTTP that it came by.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Gives the method of the request: the last, where redirects were followed.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.exchange.line.method
    }

    /// Gives the URL that answered: the last, where redirects were followed.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.exchange.line.uri
    }

    /// Counts the attempts that were begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.exchange.number
    }

    /// Says when to come back, if the answer does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after::of(&self.headers)
    }

    /// Gives what middlewares leave for each other.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Gives what middlewares leave for each other, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Gives the answer back if its status is a success (2xx), and otherwise an error with the beginning of its body.
    ///
    /// # Cancel safety
    /// The answer is lost.
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

    /// Gives the next piece of the body; `None` at its end.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Transport`] and [`ErrorKind::TimedOut`]; the body is at its end then.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.exchange.as_mut().chunk().await
    }

    /// Gives the body, to be read piece by piece, or passed on.
    #[must_use]
    pub fn into_body(self) -> ResponseBody {
        ResponseBody(self.exchange)
    }

    /// Reads the body to its end.
    ///
    /// # Cancel safety
    /// The answer is lost.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], if it has more bytes than the client's
    /// [`max_body`](super::ApiClientBuilder::max_body); as soon as that is known, which may be from its length.
    /// Otherwise as [`chunk`](Self::chunk).
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        self.fill().await?;
        Ok(self.exchange.as_mut().take_begun())
    }

    /// Reads the body to its end, as text; what is not UTF-8 is replaced by U+FFFD.
    ///
    /// # Cancel safety
    /// The answer is lost.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String, Error> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads the body to its end, as JSON.
    ///
    /// # Cancel safety
    /// The answer is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] with the place in the document that is not as expected. Otherwise as
    /// [`bytes`](Self::bytes).
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T, Error> {
        self.fill().await?;
        decode(&self.exchange.as_mut().take_begun())
            .map_err(|decode| self.exchange.error(ErrorKind::Decode(decode)))
    }

    /// Reads all of the body, if it is not too large.
    pub(super) async fn fill(&mut self) -> Result<(), Error> {
        let limit = if mutant!("http.no_cap") { usize::MAX } else { self.exchange.max_body() };
        // As soon as that is known, which may be from its length.
        let fits = self.exchange.size_hint().lower() <= limit as u64;
        if fits && self.exchange.as_mut().fill(limit).await? && self.exchange.begun().len() <= limit {
            return Ok(());
        }
        Err(self.exchange.error(ErrorKind::TooLarge { limit }))
    }

    /// Reads a body of which no more than the beginning is of interest, so that its connection can be used again. What
    /// ends it early does not matter.
    pub(super) async fn drain(&mut self) {
        if !matches!(timeout(DRAIN_TIME, self.exchange.as_mut().fill(DRAIN_BYTES)).await, Ok(Ok(_))) {
            tracing::debug!(status = %self.status, "the body of a failure broke off, or came slowly");
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

/// Decodes once more, with a note of where: that costs as much again, which only a failure is to pay.
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
