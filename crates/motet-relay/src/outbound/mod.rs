//! The HTTP client: sends one signed POST to an endpoint within its timeouts.
//!
//! - It uses the kept connections of `motet-http`, which belong to the scope of this part. They go only to addresses
//!   that the guard allows, and a connection stays on the address that was checked when it was dialled.
//! - It follows no redirect, reads no proxy variable, keeps no cookie and decompresses nothing.
//! - The status line is the response. The body is read only so that the connection can be reused and a failure can be
//!   explained, up to [`MAX_BODY_BYTES`].

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use motet::task::{Scope, timeout, timeout_at};
use motet_http::{Body, ClientConfigError, Connections, Fault, ReceivedBody, Versions, retry_after};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use thiserror::Error;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Timeouts;
use crate::guard::AddressGuard;

/// Maximum number of bytes that are read of a response body.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Maximum number of bytes of a failure's body that are recorded.
const EXCERPT_BYTES: usize = 1 << 10;

/// Maximum size of the headers of a response.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Maximum number of idle connections to all hosts.
const MAX_IDLE: usize = 1_024;

/// How many times one attempt sends its request again over another connection.
const MAX_RESENDS: u32 = 2;

/// A timer that fires this late shows that the process was stopped or starved.
const PAUSE: Duration = Duration::from_secs(1);

/// After such a pause a response that has arrived has this long to be read.
const AFTER_PAUSE: Duration = Duration::from_secs(1);

/// Long enough for a steady trickle of events, and shorter than the idle timeout of most servers (60 s and more), so
/// that a kept connection is seldom found closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// The response of a receiver.
#[derive(Debug)]
pub(crate) struct ReceiverResponse {
    pub(crate) status: u16,
    /// The beginning of the body; only for failures.
    pub(crate) excerpt: Option<String>,
    /// The delay that the receiver asks for (`Retry-After`).
    pub(crate) retry_after: Option<Duration>,
    /// The body, if only the status matters.
    pub(crate) unread: Option<UnreadBody>,
}

/// The body of a response that is not needed. After it is read to its end, the connection can be reused.
#[derive(Debug)]
pub(crate) struct UnreadBody {
    body: ReceivedBody,
    deadline: Instant,
}

impl UnreadBody {
    /// Reads the body up to the limit or the deadline of the attempt.
    pub(crate) async fn read(self) {
        drop(read_some(self.body, self.deadline).await);
    }
}

/// The reason why there is no response.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error("cannot send a request to the URL: {0}")]
    Url(http::Error),
    #[error("cannot send the headers of the endpoint: {0}")]
    Headers(http::Error),
    #[error("no response within {} ms", .0.as_millis())]
    HeadersTimeout(Duration),
    #[error("{message}")]
    Failed {
        message: String,
        fault: Fault,
        /// `true` if the process or the machine lacks descriptors or memory, so that no request can be sent.
        lacks_resources: bool,
    },
}

impl SendError {
    /// Returns whether the receiver, the settings or this process caused the failure.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Url(_) | Self::Headers(_) => Fault::Settings,
            Self::HeadersTimeout(_) => Fault::Remote,
            Self::Failed { fault, .. } => *fault,
        }
    }
}

/// Sends the requests of attempts.
#[derive(Debug)]
pub(crate) struct Outbound {
    connections: Connections,
    timeouts: Timeouts,
    max_open: NonZeroUsize,
    clock: Clock,
}

impl Outbound {
    /// Creates the client. At most `per_host` idle connections are kept to each host. All connections together use
    /// three quarters of the file descriptors of the process; the others are for the API and for the store's readers.
    pub(crate) fn new(
        guard: AddressGuard,
        timeouts: Timeouts,
        per_host: usize,
        scope: &Scope,
    ) -> Result<Self, ClientConfigError> {
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

    /// Maximum number of open connections.
    pub(crate) fn max_open(&self) -> NonZeroUsize {
        self.max_open
    }

    /// Sends one request. Dropping the future closes its connection.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<ReceiverResponse, SendError> {
        let started = Instant::now();
        let to_headers = self.timeouts.headers.min(self.timeouts.total);
        let response = in_time(later(started, to_headers), self.send(url, &headers, &body)).await;
        let (head, body) = response.unwrap_or(Err(SendError::HeadersTimeout(to_headers)))?.into_parts();
        let deadline = later(started, self.timeouts.total);
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

    /// Sends the request, and sends it again if a kept connection has most likely delivered no part of it: receivers
    /// close idle connections, as relay does.
    async fn send(
        &self,
        url: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response<ReceivedBody>, SendError> {
        let mut again = MAX_RESENDS;
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
                        lacks_resources: lacks_resources(&error),
                    });
                }
            }
        }
    }
}

/// Returns `start + timeout`, or an instant in 30 years if the clock does not reach that far.
fn later(start: Instant, timeout: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    start.checked_add(timeout).unwrap_or_else(|| start + FAR)
}

/// Waits for `future` until `deadline`. Returns `None` if the deadline has passed.
///
/// A timer that fires long after its deadline shows that the process was stopped or starved. Responses that arrived in
/// that time are in the sockets, so they are read before the attempt counts as late.
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

/// Returns the beginning of a body as text. An invalid byte becomes three bytes of text, so the text is cut, not the
/// body.
fn excerpt(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES)]).into_owned();
    text.truncate(text.floor_char_boundary(EXCERPT_BYTES));
    text
}

/// Reads up to the limit or the deadline. An error that ends the body early does not matter.
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

/// Returns `true` if a cause of the error is that the process or the machine lacks descriptors or memory.
fn lacks_resources(error: &(dyn Error + 'static)) -> bool {
    const LACKS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    let mut next = Some(error);
    while let Some(error) = next {
        let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if code.is_some_and(|code| LACKS.iter().any(|lack| lack.raw_os_error() == code)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Formats an error with its causes, each of them once.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            // Writing to a String never fails.
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
    fn excerpt_of_a_long_body_is_text_up_to_the_limit() {
        for body in [vec![b'x'; 5_000], vec![0xff; 5_000], "\u{20ac}".repeat(2_000).into_bytes()] {
            let excerpt = excerpt(&body);
            assert!((EXCERPT_BYTES - 3..=EXCERPT_BYTES).contains(&excerpt.len()), "{}", excerpt.len());
        }
        assert_eq!(excerpt(b"no"), "no");
    }

    #[tokio::test(start_paused = true)]
    async fn answer_ready_soon_after_relay_was_suspended_is_in_time() {
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(in_time(deadline, pending::<()>()).await.is_none());
        assert_eq!(Instant::now(), deadline, "without a pause the deadline holds");

        // Ready at the second poll after the pause.
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
