use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri, Version};
use motet::resilience::Class;
use motet::task::timeout;
use serde::de::DeserializeOwned;

use super::error::{Decode, ErrorKind, Status};
use super::judge::{self, Repeat};
use super::{Error, ResponseBody};

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
    pub(super) body: ResponseBody,
    pub(super) attempts: u32,
    pub(super) repeat: Repeat,
    pub(super) retry_after: Option<Duration>,
    pub(super) max_body: usize,
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
        &self.body.line().method
    }

    /// Gives the URL that answered: the last, where redirects were followed.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.body.line().uri
    }

    /// Counts the attempts that were begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Says when to come back, if the answer does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
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
        let begun = self.body.begun();
        let excerpt = String::from_utf8_lossy(&begun[..begun.len().min(EXCERPT_BYTES)]).into_owned();
        let error = self.body.error(ErrorKind::Status(Status { code: self.status, excerpt }));
        Err(error.attempts_made(self.attempts).hinted(self.retry_after).repeat(self.repeat))
    }

    /// Gives the next piece of the body; `None` at its end.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Transport`] and [`ErrorKind::TimedOut`]; the body is at its end then.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.body.chunk().await
    }

    /// Gives the body, to be read piece by piece, or passed on.
    #[must_use]
    pub fn into_body(self) -> ResponseBody {
        self.body
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
        Ok(self.body.take_begun())
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
        decode(&self.body.take_begun())
            .map_err(|decode| self.body.error(ErrorKind::Decode(decode)).attempts_made(self.attempts))
    }

    /// Reads all of the body, if it is not too large.
    pub(super) async fn fill(&mut self) -> Result<(), Error> {
        let limit = self.max_body;
        let is_whole = !self.body.exceeds(limit) && self.body.fill(limit).await?;
        if is_whole && self.body.begun().len() <= limit {
            return Ok(());
        }
        let kind = ErrorKind::TooLarge { limit };
        Err(self.body.error(kind).attempts_made(self.attempts))
    }

    /// Reads a body of which no more than the beginning is of interest, so that its connection can be used again. What
    /// ends it early does not matter.
    pub(super) async fn drain(&mut self) {
        if !matches!(timeout(DRAIN_TIME, self.body.fill(DRAIN_BYTES)).await, Ok(Ok(_))) {
            tracing::debug!(status = %self.status, "the body of a failure broke off, or came slowly");
        }
    }

    pub(super) fn class(&self) -> Class {
        judge::status(self.status, self.repeat, self.retry_after)
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
