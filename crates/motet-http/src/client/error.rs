use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, Uri};
use motet::resilience::{Class, RejectedBy};

use super::judge::{self, Repeat};
use super::request_line::RequestLine;
use crate::connect::SendError;

/// Any error.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call gave no answer, or none of use: [`kind`](Self::kind) says what it was, and the rest what it was about.
///
/// One pointer wide. It is printed without the query and the fragment of the URL, in which secrets travel.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    line: Arc<RequestLine>,
    attempts: u32,
    retry_after: Option<Duration>,
    repeat: Repeat,
}

/// What went wrong with a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be made: a URL that is none or leaves the base URL, a header that is none, a body that does
    /// not serialize. Nothing was sent.
    Request(BoxError),
    /// No connection came about: resolving, dialling, or TLS. Nothing was sent.
    Connect(BoxError),
    /// A limit of time was reached.
    TimedOut(TimeLimit),
    /// A policy did not let the call through: the breaker of the host, or the places for it. Nothing was sent.
    Rejected(RejectedBy),
    /// The answer has a status that is not a success.
    Status(Status),
    /// The connection failed, or the other side broke the rules of HTTP, before the answer was complete.
    Transport(BoxError),
    /// The other side has said that it does nothing about the request: that its connection of HTTP/2 is to end, or that it
    /// has no room for it.
    Refused(BoxError),
    /// The stream that was to be the request's body failed.
    RequestBody(BoxError),
    /// The body of the answer is larger than it may be.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body of the answer is not what it was to be.
    Decode(Decode),
    /// The answer leads elsewhere, and that way cannot be gone.
    Redirect(Redirect),
    /// The scope of the client has ended, or is about to.
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

/// Which limit of time was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeLimit {
    /// That of the whole call: attempts, waits, and the body of the answer.
    Total,
    /// That of connecting.
    Connect,
    /// That of an attempt, to the end of the answer's headers.
    Head,
    /// That of a body of which nothing more comes.
    Read,
    /// That of a policy which was given to the client.
    Policy,
}

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The status.
    pub code: StatusCode,
    /// The beginning of the body, up to 1 KiB, what is not UTF-8 replaced.
    pub excerpt: String,
}

/// A body that is not what it was to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Decode {
    /// Where in the document: `users[3].name`; `.` is the document itself.
    pub path: String,
    /// What is wrong there.
    pub error: serde_json::Error,
}

/// Why a redirect was not followed, though redirects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Redirect {
    /// There were more of them than may be.
    TooMany,
    /// `Location` is not a URL that can be requested.
    NoTarget,
    /// From `https` to `http`.
    Downgrade,
    /// The request's body is a stream, which cannot be sent twice.
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
            // A server that sends its clients elsewhere is well.
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

    /// Says what went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Gives what went wrong, by value.
    #[must_use]
    pub fn into_kind(self) -> ErrorKind {
        self.0.kind
    }

    /// Gives the method of the request.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.0.line.method
    }

    /// Gives the URL of the request: the last, where redirects were followed.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0.line.uri
    }

    /// Counts the attempts that were begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Says when to try again, where the other side or a policy has said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Gives the status of the answer, if that is what went wrong.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match &self.0.kind {
            ErrorKind::Status(status) => Some(status.code),
            _ => None,
        }
    }

    /// Asks whether a limit of time was reached.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, ErrorKind::TimedOut(_))
    }

    /// Asks whether no connection came about, so that nothing was sent.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Connect(_) | ErrorKind::TimedOut(TimeLimit::Connect))
    }

    /// Asks whether a policy did not let the call through.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Rejected(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, line, attempts, .. } = &*self.0;
        let RequestLine { method, uri } = &**line;
        write!(f, "{method} ")?;
        if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
            write!(f, "{scheme}://{authority}")?;
        }
        write!(f, "{}: {kind}", uri.path())?;
        if *attempts > 1 {
            write!(f, " (attempt {attempts})")?;
        }
        Ok(())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(_) => f.write_str("the request cannot be made"),
            Self::Connect(_) => f.write_str("no connection"),
            Self::TimedOut(limit) => write!(f, "{limit}"),
            Self::Rejected(by) => write!(f, "rejected by the {by}"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Transport(_) => f.write_str("the connection failed before the answer was complete"),
            Self::Refused(_) => f.write_str("the request was refused"),
            Self::RequestBody(_) => f.write_str("the body of the request failed"),
            Self::TooLarge { limit } => write!(f, "the body of the answer has more than {limit} bytes"),
            Self::Decode(decode) => write!(f, "the answer is not as expected at `{}`", decode.path),
            Self::Redirect(redirect) => write!(f, "{redirect}"),
            Self::Closed => f.write_str("the scope of the client has ended"),
        }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Total => "the time of the call was up",
            Self::Connect => "no connection in time",
            Self::Head => "no answer in time",
            Self::Read => "no more of the answer came in time",
            Self::Policy => "the time that a policy gives was up",
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
            Self::NoTarget => "a redirect to what is not a URL",
            Self::Downgrade => "a redirect from https to http",
            Self::BodyIsGone => "a redirect of a request whose body cannot be sent again",
        })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.kind {
            ErrorKind::Request(error)
            | ErrorKind::Connect(error)
            | ErrorKind::Transport(error)
            | ErrorKind::Refused(error)
            | ErrorKind::RequestBody(error) => Some(&**error),
            ErrorKind::Decode(decode) => Some(&decode.error),
            ErrorKind::TimedOut(_)
            | ErrorKind::Rejected(_)
            | ErrorKind::Status(_)
            | ErrorKind::TooLarge { .. }
            | ErrorKind::Redirect(_)
            | ErrorKind::Closed => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, line, attempts, retry_after, .. } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("method", &line.method)
            // Without the query, as it is printed.
            .field("path", &line.uri.path())
            .field("attempts", attempts)
            .field("retry_after", retry_after)
            .finish_non_exhaustive()
    }
}
