/// What a finished call says of what it called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is well.
    Success,
    /// It is not: the call counts against it.
    Failure,
    /// The call says nothing of it: the caller's own mistake, say. It neither counts as a failure nor ends a
    /// streak of them.
    Ignore,
}
