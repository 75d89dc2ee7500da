use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::Name;

/// The reason of a cancellation: its kind, the task that caused it, and the moment.
///
/// The first reason is kept; later reasons do not replace it. Cloning is cheap.
#[derive(Clone)]
pub struct Reason(Arc<Inner>);

struct Inner {
    kind: ReasonKind,
    by: Option<Name>,
    text: Option<Name>,
    at: Instant,
}

/// The kinds of [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReasonKind {
    /// A caller requested it, with [`Reason::requested`]; or a component of the scope did, when the caller closed it. The
    /// [text](Reason::text) states what happened.
    Requested,
    /// The body or a sibling returned an error.
    Failed,
    /// The body or a sibling panicked.
    Panicked,
    /// A sibling succeeded first ([`Policy::FirstOk`](super::Policy::FirstOk)).
    Succeeded,
    /// The value of a task was awaited ([`Task::value`](super::Task::value)), and the task ended without one.
    NoValue,
    /// The deadline passed.
    Deadline,
    /// The future of the scope was dropped before its end.
    Dropped,
    /// The work of the scope is finished, so its services end.
    Ended,
    /// The program, or its runtime, is shutting down.
    Shutdown,
}

impl Reason {
    /// Creates the reason of a caller that requests the cancellation, with a text.
    pub fn requested(text: impl Into<Name>) -> Self {
        Self::new(ReasonKind::Requested, None, Some(text.into()))
    }

    pub(crate) fn of(kind: ReasonKind) -> Self {
        Self::new(kind, None, None)
    }

    pub(crate) fn by(kind: ReasonKind, by: Option<Name>) -> Self {
        Self::new(kind, by, None)
    }

    pub(crate) fn new(kind: ReasonKind, by: Option<Name>, text: Option<Name>) -> Self {
        Self(Arc::new(Inner { kind, by, text, at: Instant::now() }))
    }

    /// The kind of the reason.
    #[must_use]
    pub fn kind(&self) -> ReasonKind {
        self.0.kind
    }

    /// The name of the task that caused the cancellation, if a task did.
    #[must_use]
    pub fn caused_by(&self) -> Option<&str> {
        self.0.by.as_ref().map(Name::as_str)
    }

    /// The text of the caller that requested the cancellation.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.text.as_ref().map(Name::as_str)
    }

    /// The moment of the cancellation.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.0.at
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "cancelled on request",
            Self::Failed => "a sibling failed",
            Self::Panicked => "a sibling panicked",
            Self::Succeeded => "a sibling succeeded first",
            Self::NoValue => "a task ended without the value that was awaited",
            Self::Deadline => "the deadline passed",
            Self::Dropped => "the scope's future was dropped",
            Self::Ended => "the scope's work is done",
            Self::Shutdown => "the program is shutting down",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind(), self.caused_by(), self.text()) {
            (ReasonKind::Failed, None, None) => f.write_str("the body failed")?,
            (ReasonKind::Panicked, None, None) => f.write_str("the body panicked")?,
            (kind, ..) => kind.fmt(f)?,
        }
        if let Some(by) = self.caused_by() {
            write!(f, ": `{by}`")?;
        }
        if let Some(text) = self.text() {
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reason")
            .field("kind", &self.0.kind)
            .field("caused_by", &self.caused_by())
            .field("text", &self.text())
            .finish_non_exhaustive()
    }
}
