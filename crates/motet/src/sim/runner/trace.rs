use std::fmt;
use std::time::Duration;

use super::{End, Operation, TaskId};

/// An event of a run. Two runs of a seed have equal events. Its size is 88 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEvent {
    /// The virtual time since the start of the run.
    pub at: Duration,
    /// The task of the event.
    pub task: Option<TaskId>,
    /// The kind of event.
    pub what: What,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The task was spawned.
    Spawned,
    /// The simulation delayed the poll.
    Skipped,
    /// A poll begins, with this number of operations of the budget, or with the whole budget.
    Polled(Option<usize>),
    /// The poll was pending, in this operation of the library, if any.
    Pending(Option<Operation>),
    /// The task has ended.
    Ended(End),
    /// An operation of the library.
    Op(&'static str),
    /// A pass through a fault point.
    Fault(&'static str, Act),
    /// A choice.
    Choice(usize),
    /// The condition of an `always!` was false.
    Broken(&'static str),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawned => f.write_str("spawned"),
            Self::Skipped => f.write_str("put off"),
            Self::Polled(None) => f.write_str("polled"),
            Self::Polled(Some(operations)) => write!(f, "polled, with {operations} operations"),
            Self::Pending(None) => f.write_str("pending"),
            Self::Pending(Some(operation)) => write!(f, "pending in {operation}"),
            Self::Ended(End::Completed) => f.write_str("completed"),
            Self::Ended(End::Dropped) => f.write_str("dropped"),
            Self::Ended(End::Panicked) => f.write_str("panicked"),
            Self::Op(name) => f.write_str(name),
            Self::Fault(point, act) => write!(f, "fault point {point}: {act}"),
            Self::Choice(picked) => write!(f, "chose {picked}"),
            Self::Broken(text) => write!(f, "does not hold: {text}"),
        }
    }
}

/// The effect of a pass through a fault point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// No effect.
    Pass,
    /// Other tasks run first.
    Yield,
    /// A delay.
    Delay(Duration),
    /// A failure.
    Fail,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Yield => f.write_str("yield"),
            Self::Delay(delay) => write!(f, "delay of {delay:?}"),
            Self::Fail => f.write_str("fail"),
        }
    }
}
