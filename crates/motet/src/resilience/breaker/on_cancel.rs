use std::time::Duration;

/// Says what a call counts as that was dropped before it ended.
///
/// A call whose caller lost interest says nothing of the backend. One that hung until a timeout of the caller
/// dropped it says the most: a breaker that ignores it never opens for a backend that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCancel {
    /// As nothing.
    Ignore,
    /// As a failure.
    Failure,
    /// As a failure, and a slow one, if it had been under way for this long; else as nothing. With zero as a failure
    /// always, with [`Duration::MAX`] never.
    FailureIfLongerThan(Duration),
}
