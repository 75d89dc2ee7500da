/// Tells what the polls of a task mean to a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollKind {
    /// Work that must come to an end: its polls are progress, and a run in which no work can go on is a
    /// deadlock.
    Work,
    /// A companion that goes on as long as it is let, such as a ticker: its polls are no progress, so it
    /// cannot hide a deadlock.
    Service,
}
