/// The meaning of the polls of a task for a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollKind {
    /// Work that must end. Its polls are progress, and a run in which no work can make progress is a deadlock.
    Work,
    /// A service that runs until it is stopped, such as a ticker. Its polls are no progress, so that it cannot hide a
    /// deadlock.
    Service,
}
