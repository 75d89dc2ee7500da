/// The verdict of a finished call on the dependency that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The dependency is healthy.
    Success,
    /// The dependency failed: the call counts against it.
    Failure,
    /// The call does not show whether the dependency is healthy: a mistake of the caller, for example. It neither
    /// counts as a failure nor ends a streak of failures.
    Ignore,
}
