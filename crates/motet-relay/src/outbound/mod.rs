//! The client side: one signed POST to an endpoint, inside its timeouts.
//!
//! - Kept-alive connections of `motet-http`, which belong to the scope of this part, and go only to addresses that the guard
//!   lets through; a connection stays on the address that was checked when it was dialled.
//! - No redirect is followed, no proxy variable is read, no cookie kept, nothing decompressed.
//! - The status line is the answer. The body is read only so that the connection can be used again and a
//!   failure be explained, and no further than [`MAX_BODY_BYTES`].

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use motet::task::{Scope, timeout, timeout_at};
use motet_http::{Body, Connections, Fault, InvalidClient, ReceivedBody, Versions, retry_after};
use rustix::process::{Resource, getrlimit};
use thiserror::Error;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Timeouts;
use crate::guard::AddressGuard;

/// Reading an answer stops here.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Of a failure's body, this much is recorded.
const EXCERPT_BYTES: usize = 1 << 10;

/// The most an answer's headers may take.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Connections to all hosts that stay open while idle.
const MAX_IDLE: usize = 1_024;

/// How often a request is sent again in one attempt, over another connection.
const SENT_AGAIN: u32 = 2;

/// A timer that rings so much later than it was set to had no process to ring in.
const PAUSE: Duration = Duration::from_secs(1);

/// What came during such a pause has this long to be read.
const AFTER_PAUSE: Duration = Duration::from_secs(1);

/// Long enough to serve a steady trickle of events, shorter than the idle limit of most servers (60 s and
/// more), so that a connection is rarely found closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// What the receiver answered.
#[derive(Debug)]
pub(crate) struct ReceiverResponse {
    pub(crate) status: u16,
    /// The beginning of the body, kept for failures only.
    pub(crate) excerpt: Option<String>,
    /// How long the receiver asks to be left alone (`Retry-After`).
    pub(crate) retry_after: Option<Duration>,
    /// The body, if the status has said all that matters.
    pub(crate) unread: Option<UnreadBody>,
}

/// The body of an answer, of which nothing is needed. Read to its end, the connection can be used again.
#[derive(Debug)]
pub(crate) struct UnreadBody {
    body: ReceivedBody,
    deadline: Instant,
}

impl UnreadBody {
    /// Reads it, to the limit or the deadline of the attempt.
    pub(crate) async fn read(self) {
        drop(read_some(self.body, self.deadline).await);
    }
}

/// Why there was no answer.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error("the URL cannot be requested: {0}")]
    Url(http::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    HeadersDeadline(Duration),
    #[error("{message}")]
    Failed { message: String, fault: Fault },
}

impl SendError {
    /// Returns whose trouble it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Url(_) => Fault::Settings,
            Self::HeadersDeadline(_) => Fault::Remote,
            Self::Failed { fault, .. } => *fault,
        }
    }
}

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Outbound {
    connections: Connections,
    timeouts: Timeouts,
    max_open: NonZeroUsize,
    clock: Clock,
}

impl Outbound {
    /// `per_host` connections at most stay open while idle, to each host. All together take three quarters of the
    /// descriptors that the process may have: the others are for the API, and for the store's readers.
    pub(crate) fn new(
        guard: AddressGuard,
        timeouts: Timeouts,
        per_host: usize,
        scope: &Scope,
    ) -> Result<Self, InvalidClient> {
        let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
        let max_open = NonZeroUsize::new(files.map_or(usize::MAX, |files| files - files.div_ceil(4)));
        let max_open = max_open.unwrap_or(NonZeroUsize::MIN);
        let connections = Connections::builder(scope)
            .versions(Versions::Http1)
            .max_open(max_open.get())
            .max_idle(MAX_IDLE.min(max_open.get() / 2))
            .lenient_heads()
            .connect_timeout(timeouts.connect)
            .connect_only_to(move |address| guard.check(address))
            .idle_timeout(IDLE_CONNECTION)
            .max_idle_per_host(per_host)
            .max_head(MAX_HEADER_BYTES)
            .build()?;
        Ok(Self { connections, timeouts, max_open, clock: Clock::new() })
    }

    /// How many connections may be open at once.
    pub(crate) fn max_open(&self) -> NonZeroUsize {
        self.max_open
    }

    /// One attempt. Dropping the future closes its connection.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<ReceiverResponse, SendError> {
        let started = Instant::now();
        let to_headers = self.timeouts.headers.min(self.timeouts.total);
        let response = in_time(started + to_headers, self.send(url, &headers, &body)).await;
        let (head, body) = response.unwrap_or(Err(SendError::HeadersDeadline(to_headers)))?.into_parts();
        let deadline = started + self.timeouts.total;
        let (excerpt, unread) = if head.status.is_success() {
            (None, Some(UnreadBody { body, deadline }))
        } else {
            let begun = read_some(body, deadline).await;
            ((!begun.is_empty()).then(|| excerpt(&begun)), None)
        };
        let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(self.clock.wall()).unwrap_or(0));
        let retry_after = retry_after(&head.headers, Some(now));
        Ok(ReceiverResponse { status: head.status.as_u16(), excerpt, retry_after, unread })
    }

    /// Sends the request, and sends it again where a kept connection has most likely delivered none of it: receivers close
    /// connections that are idle, as relay does.
    async fn send(
        &self,
        url: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response<ReceivedBody>, SendError> {
        let mut again = SENT_AGAIN;
        loop {
            let request = Request::builder().method(Method::POST).uri(url).body(Body::from(body.clone()));
            let mut request = request.map_err(SendError::Url)?;
            request.headers_mut().clone_from(headers);
            match self.connections.send(request).await {
                Err(motet_http::SendError::Stale(_) | motet_http::SendError::Refused(_)) if again > 0 => {
                    again -= 1;
                }
                sent => {
                    return sent.map_err(|error| SendError::Failed {
                        message: explain(error.source().unwrap_or(&error)),
                        fault: error.fault(),
                    });
                }
            }
        }
    }
}

/// Waits until the deadline; `None` if that was too short.
///
/// A timer that rings long after its time had no process to ring in: relay was stopped, or starved. What came meanwhile
/// lies in the sockets, and is read before anything is called late.
async fn in_time<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    if let Ok(done) = timeout_at(deadline, future.as_mut()).await {
        return Some(done);
    }
    if deadline.elapsed() < PAUSE {
        return None;
    }
    timeout(AFTER_PAUSE, future).await.ok()
}

/// The beginning of a body as text. A byte that is none becomes three, so it is cut as text.
fn excerpt(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES)]).into_owned();
    text.truncate(text.floor_char_boundary(EXCERPT_BYTES));
    text
}

/// Reads up to the limit or the deadline; what ends the body early does not matter here.
async fn read_some(mut body: ReceivedBody, deadline: Instant) -> Vec<u8> {
    let mut begun = Vec::new();
    let mut read = 0;
    while read < MAX_BODY_BYTES {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { break };
        if let Some(data) = frame.data_ref() {
            read += data.len();
            let wanted = EXCERPT_BYTES.saturating_sub(begun.len()).min(data.len());
            begun.extend_from_slice(&data[..wanted]);
        }
    }
    begun
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
    use std::future::{pending, poll_fn};
    use std::task::Poll;

    use tokio::time::{advance, sleep};

    use super::*;

    #[test]
    fn excerpt_is_bounded_as_text() {
        for body in [vec![b'x'; 5_000], vec![0xff; 5_000], "\u{20ac}".repeat(2_000).into_bytes()] {
            let excerpt = excerpt(&body);
            assert!((EXCERPT_BYTES - 3..=EXCERPT_BYTES).contains(&excerpt.len()), "{}", excerpt.len());
        }
        assert_eq!(excerpt(b"no"), "no");
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_came_during_a_pause_is_in_time() {
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(in_time(deadline, pending::<()>()).await.is_none());
        assert_eq!(Instant::now(), deadline, "without a pause the deadline holds");

        // Ready at the second look, which a process that goes on after a pause has not had.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut looks = 0;
        let answer = poll_fn(|cx| {
            looks += 1;
            cx.waker().wake_by_ref();
            if looks > 2 { Poll::Ready(looks) } else { Poll::Pending }
        });
        advance(Duration::from_secs(30)).await;
        assert!(in_time(deadline, answer).await.is_some());

        let deadline = Instant::now();
        advance(Duration::from_secs(30)).await;
        assert!(in_time(deadline, sleep(AFTER_PAUSE * 2)).await.is_none());
    }
}
