use std::time::Duration;

/// How a call counts that was dropped before it ended.
///
/// A call whose caller lost interest does not show whether the dependency is healthy. A call that hung until a timeout
/// of the caller dropped it shows the most: a breaker that ignores such calls never opens for a dependency that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCancel {
    /// The call does not count.
    Ignore,
    /// The call counts as a failure.
    Failure,
    /// The call counts as a failure, and as slow, if it ran for at least this long; otherwise it does not count. With
    /// zero, it always counts as a failure; with [`Duration::MAX`], never.
    FailureIfLongerThan(Duration),
}
