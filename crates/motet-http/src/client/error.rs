use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, Uri};
use hyper_util::client::legacy;
use motet::resilience::{Class, PolicyKind};

use super::judge::{self, Repeat};
use super::request_line::RequestLine;
use crate::connect::SendError;

/// Any error.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The error of a call. [`kind`](Self::kind) is the reason; the other methods describe the request.
///
/// Its message has the request, the reason and the causes, so [`source`](StdError::source) is `None`; the causes as values
/// are in the [`ErrorKind`]. One pointer wide. It is printed without the query and the fragment of the URL, since they may
/// contain secrets.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    line: Arc<RequestLine>,
    attempts: u32,
    retry_after: Option<Duration>,
    repeat: Repeat,
}

/// The reason why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid: its URL is invalid or leaves the base URL, a header is invalid, or its body does not
    /// serialize. Nothing was sent.
    Request(BoxError),
    /// The connection could not be opened: resolving, dialling, or TLS failed. Nothing was sent.
    Connect(BoxError),
    /// A timeout elapsed.
    TimedOut(TimeLimit),
    /// A policy rejected the call: the breaker of the host, or the limit of calls in flight. Nothing was sent.
    Rejected(PolicyKind),
    /// The status of the response is not a success.
    Status(Status),
    /// The connection failed, or the server violated HTTP, before the response was complete.
    Transport(BoxError),
    /// The server states that it did not process the request: its HTTP/2 connection is closing, or it has no capacity.
    Refused(BoxError),
    /// The stream of the request body failed, or the body has another length than its `content-length`.
    RequestBody(BoxError),
    /// The response body is larger than the limit.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The response body does not decode.
    Decode(Decode),
    /// A redirect was not followed.
    Redirect(Redirect),
    /// The scope of the client has ended or is ending.
    Closed,
}

impl From<SendError> for ErrorKind {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Closed => Self::Closed,
            SendError::ConnectTimedOut(_) => Self::TimedOut(TimeLimit::Connect),
            SendError::Connect(error) => Self::Connect(error),
            SendError::Refused(error) => Self::Refused(error),
            SendError::RequestBody(error) => Self::RequestBody(error),
            SendError::Transport(error) | SendError::Stale(error) => Self::Transport(error),
        }
    }
}

/// The timeout that elapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeLimit {
    /// The timeout of the call: attempts, delays, and the response body.
    Total,
    /// The timeout of connecting.
    Connect,
    /// The timeout of an attempt, to the end of the response headers.
    Head,
    /// The timeout of a read of the body.
    Read,
    /// The timeout of a policy that was given to the client.
    Policy,
}

/// A response whose status is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The status.
    pub code: StatusCode,
    /// The beginning of the body, at most 1 KiB, with invalid UTF-8 replaced.
    pub excerpt: String,
}

/// A response body that does not decode.
#[derive(Debug)]
#[non_exhaustive]
pub struct Decode {
    /// The path in the document, such as `users[3].name`; `.` is the document itself.
    pub path: String,
    /// The error at this path.
    pub error: serde_json::Error,
}

/// The reason why a redirect was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Redirect {
    /// There were more redirects than the limit.
    TooMany,
    /// `Location` is not a URL that can be requested.
    NoTarget,
    /// From `https` to `http`.
    Downgrade,
    /// The request body is a stream, which cannot be sent twice.
    BodyIsGone,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, line: &Arc<RequestLine>) -> Self {
        Self(Box::new(Inner {
            kind,
            line: Arc::clone(line),
            attempts: 0,
            retry_after: None,
            repeat: Repeat::NEVER,
        }))
    }

    pub(super) fn attempts_made(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    pub(super) fn hinted(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after.or(self.0.retry_after);
        self
    }

    pub(super) fn repeat(mut self, repeat: Repeat) -> Self {
        self.0.repeat = repeat;
        self
    }

    pub(super) fn class(&self) -> Class {
        let Inner { kind, repeat, retry_after, .. } = &*self.0;
        let class = match kind {
            ErrorKind::Connect(_) | ErrorKind::TimedOut(TimeLimit::Connect) => judge::failure(repeat.unsent),
            // A server that redirects its clients is healthy.
            ErrorKind::Refused(_) => Class { retryable: repeat.unsent, ..Class::ignore() },
            ErrorKind::TimedOut(_) | ErrorKind::Transport(_) => judge::failure(repeat.sent),
            ErrorKind::Status(status) => return judge::status(status.code, *repeat, *retry_after),
            ErrorKind::Decode(_) | ErrorKind::Redirect(_) => Class::success(),
            ErrorKind::Request(_)
            | ErrorKind::Rejected(_)
            | ErrorKind::RequestBody(_)
            | ErrorKind::TooLarge { .. }
            | ErrorKind::Closed => Class::ignore(),
        };
        Class { retry_after: *retry_after, ..class }
    }

    /// Returns the reason.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns the reason with its causes as text, without the method and the URL: for a table that has the URL already. `Display`
    /// of the error has both.
    #[must_use]
    pub fn reason(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| {
            write!(f, "{}", self.0.kind)?;
            write_causes(f, &self.0.kind)
        })
    }

    /// Returns the reason, by value.
    #[must_use]
    pub fn into_kind(self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the method of the request.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.0.line.method
    }

    /// Returns the URL of the request, of the last one after redirects.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0.line.uri
    }

    /// Returns the number of attempts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Returns the delay after which to try again, if the server or a policy asks for one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the status of the response, if it is the reason.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match &self.0.kind {
            ErrorKind::Status(status) => Some(status.code),
            _ => None,
        }
    }

    /// Returns `true` if a timeout elapsed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, ErrorKind::TimedOut(_))
    }

    /// Returns `true` if no connection could be opened, so that nothing was sent.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Connect(_) | ErrorKind::TimedOut(TimeLimit::Connect))
    }

    /// Returns `true` if a policy rejected the call.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Rejected(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, line, attempts, retry_after, .. } = &*self.0;
        let RequestLine { method, uri } = &**line;
        write!(f, "{method} ")?;
        if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
            write!(f, "{scheme}://{authority}")?;
        }
        write!(f, "{}: {kind}", uri.path())?;
        write_causes(f, kind)?;
        if matches!(kind, ErrorKind::Rejected(_))
            && let Some(after) = retry_after
        {
            write!(f, "; try again in {after:?}")?;
        }
        if *attempts > 1 {
            write!(f, " (attempt {attempts})")?;
        }
        Ok(())
    }
}

/// Writes the errors that caused this kind of error, each once. Some libraries repeat the text of a cause.
fn write_causes(f: &mut fmt::Formatter<'_>, kind: &ErrorKind) -> fmt::Result {
    let mut text = String::new();
    let mut next = kind.cause();
    while let Some(cause) = next {
        // It only names the step that failed, as the kind does.
        if !cause.is::<legacy::Error>() {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        next = cause.source();
    }
    f.write_str(&text)
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(_) => f.write_str("the request is invalid"),
            Self::Connect(_) => f.write_str("cannot connect"),
            Self::TimedOut(limit) => write!(f, "{limit}"),
            Self::Rejected(by) => write!(f, "rejected by the {by}"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Transport(_) => f.write_str("the response is incomplete"),
            Self::Refused(_) => f.write_str("the request was refused"),
            Self::RequestBody(_) => f.write_str("the body of the request failed"),
            Self::TooLarge { limit } => {
                write!(f, "the response body has more than {limit} bytes (`max_body`)")
            }
            Self::Decode(decode) => write!(f, "the response does not decode at `{}`", decode.path),
            Self::Redirect(redirect) => write!(f, "{redirect}"),
            Self::Closed => f.write_str("the scope of the client has ended"),
        }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Total => "the call timed out",
            Self::Connect => "connecting timed out",
            Self::Head => "the response headers timed out",
            Self::Read => "reading the response body timed out",
            Self::Policy => "a policy timed out",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.code)?;
        if !self.excerpt.is_empty() {
            write!(f, ": {:?}", self.excerpt)?;
        }
        Ok(())
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "too many redirects",
            Self::NoTarget => "a redirect to an invalid URL",
            Self::Downgrade => "a redirect from https to http",
            Self::BodyIsGone => "a redirect of a request whose body cannot be sent twice",
        })
    }
}

/// The causes are in the message, and typed in the [`ErrorKind`].
impl StdError for Error {}

impl ErrorKind {
    /// The error of the library or of the caller, if it is the reason.
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Request(error)
            | Self::Connect(error)
            | Self::Transport(error)
            | Self::Refused(error)
            | Self::RequestBody(error) => Some(&**error),
            Self::Decode(decode) => Some(&decode.error),
            Self::TimedOut(_)
            | Self::Rejected(_)
            | Self::Status(_)
            | Self::TooLarge { .. }
            | Self::Redirect(_)
            | Self::Closed => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, line, attempts, retry_after, .. } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("method", &line.method)
            // The query is not printed.
            .field("path", &line.uri.path())
            .field("attempts", attempts)
            .field("retry_after", retry_after)
            .finish_non_exhaustive()
    }
}
