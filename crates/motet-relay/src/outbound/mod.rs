//! The client side: one signed POST to an endpoint, inside its deadlines.
//!
//! - Kept-alive connections of `motet-http`, which belong to the scope of this part, and go only to addresses that the guard
//!   lets through; a connection stays on the address that was checked when it was dialled.
//! - No redirect is followed, no proxy variable is read, no cookie kept, nothing decompressed.
//! - The status line is the answer. The body is read only so that the connection can be used again and a
//!   failure be explained, and no further than [`MOST_BODY_BYTES`].

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::BodyExt as _;
use jiff::fmt::rfc2822::DateTimeParser;
use motet::task::{Scope, timeout_at};
use motet_http::{Body, Connections, InvalidClient, ReceivedBody, Versions};
use thiserror::Error;
use tokio::time::Instant;

use crate::clock::Millis;
use crate::guard::AddressGuard;

/// Reading an answer stops here.
const MOST_BODY_BYTES: usize = 64 << 10;

/// Of a failure's body, this much is recorded.
const EXCERPT_BYTES: usize = 1 << 10;

/// The most an answer's headers may take.
const MOST_HEADER_BYTES: usize = 64 << 10;

/// Long enough to serve a steady trickle of events, shorter than the idle limit of most servers (60 s and
/// more), so that a connection is rarely found closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// How long one attempt may take, part by part. All are counted from its start.
///
/// # Defaults
/// 5 s to connect, 10 s to the end of the headers, 15 s in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// Until the connection stands: name resolution, TCP and TLS.
    pub connect: Duration,
    /// Until the answer's status and headers are there.
    pub headers: Duration,
    /// Until the answer's body is read. Nothing of an attempt goes on after this.
    pub total: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            total: Duration::from_secs(15),
        }
    }
}

/// What the receiver answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The beginning of the body, kept for failures only.
    pub(crate) excerpt: Option<String>,
    pub(crate) retry_after: Option<RetryAfter>,
}

/// What a receiver asked for with `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    Wait(Duration),
    /// In calendar time.
    Until(Millis),
}

impl RetryAfter {
    /// How long to wait from now on.
    pub(crate) fn from(self, now: Millis) -> Duration {
        match self {
            Self::Wait(wait) => wait,
            Self::Until(at) => Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0)),
        }
    }

    /// Reads the header's value: a number of seconds, or a date (RFC 9110, 10.2.3).
    fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let date = || DateTimeParser::new().parse_timestamp(value).ok();
        value
            .parse()
            .map(|seconds| Self::Wait(Duration::from_secs(seconds)))
            .ok()
            .or_else(|| date().map(|date| Self::Until(date.as_millisecond())))
    }
}

/// Why there was no answer.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error("the URL cannot be requested: {0}")]
    Url(http::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    HeadersDeadline(Duration),
    #[error("{0}")]
    Failed(String),
}

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Outbound {
    connections: Connections,
    deadlines: Deadlines,
}

impl Outbound {
    /// `per_host` connections at most stay open while idle.
    pub(crate) fn new(
        guard: AddressGuard,
        deadlines: Deadlines,
        per_host: usize,
        scope: &Scope,
    ) -> Result<Self, InvalidClient> {
        let connections = Connections::builder(scope)
            .versions(Versions::Http1)
            .connect_timeout(deadlines.connect)
            .connect_only_to(move |address| guard.check(address))
            .idle_timeout(IDLE_CONNECTION)
            .max_idle_per_host(per_host)
            .max_head(MOST_HEADER_BYTES)
            .build()?;
        Ok(Self { connections, deadlines })
    }

    /// One attempt. Dropping the future closes its connection.
    pub(crate) async fn post(&self, url: &str, headers: HeaderMap, body: Bytes) -> Result<Answer, SendError> {
        let started = Instant::now();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .body(Body::from(body))
            .map_err(SendError::Url)?;
        *request.headers_mut() = headers;
        let to_headers = self.deadlines.headers.min(self.deadlines.total);
        let response = timeout_at(started + to_headers, self.connections.send(request))
            .await
            .map_err(|_| SendError::HeadersDeadline(to_headers))?
            .map_err(|error| SendError::Failed(explain(error.source().unwrap_or(&error))))?;
        let (head, body) = response.into_parts();
        let begun = read_some(body, started + self.deadlines.total).await;
        let excerpt = (!head.status.is_success() && !begun.is_empty())
            .then(|| String::from_utf8_lossy(&begun[..begun.len().min(EXCERPT_BYTES)]).into_owned());
        Ok(Answer { status: head.status.as_u16(), excerpt, retry_after: retry_after(&head.headers) })
    }
}

/// Reads up to the limit or the deadline; what ends the body early does not matter here.
async fn read_some(mut body: ReceivedBody, deadline: Instant) -> Vec<u8> {
    let mut begun = Vec::new();
    let mut read = 0;
    while read < MOST_BODY_BYTES {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { break };
        if let Some(data) = frame.data_ref() {
            read += data.len();
            let wanted = EXCERPT_BYTES.saturating_sub(begun.len()).min(data.len());
            begun.extend_from_slice(&data[..wanted]);
        }
    }
    begun
}

fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    RetryAfter::parse(headers.get(header::RETRY_AFTER)?.to_str().ok()?)
}

/// An error with all of its causes, each said once.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            // Writing to a String does not fail.
            let _infallible = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_read_and_nonsense_is_none() {
        let wait = RetryAfter::Wait(Duration::from_secs(120));
        assert_eq!(RetryAfter::parse(" 120 "), Some(wait));
        // The date of RFC 9110's own example.
        let date = RetryAfter::parse("Fri, 31 Dec 1999 23:59:59 GMT").unwrap();
        assert_eq!(date.from(946_684_799_000 - 5_000), Duration::from_secs(5));
        assert_eq!(date.from(946_684_800_000), Duration::ZERO);
        for nonsense in ["", "-1", "1.5", "soon", "99999999999999999999", "Fri, 31 Dec"] {
            assert_eq!(RetryAfter::parse(nonsense), None, "{nonsense}");
        }
    }
}
