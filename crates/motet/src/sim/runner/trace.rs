use std::fmt;
use std::time::Duration;

use super::{End, Operation, TaskId};

/// Something that happened in a run; two runs of one seed give equal events. 88 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Virtual time since the start of the run.
    pub at: Duration,
    /// The task that it happened to, or in.
    pub task: Option<TaskId>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The task was spawned.
    Spawned,
    /// The simulation put the poll off.
    Skipped,
    /// A poll begins, with so many operations of the budget, or all of it.
    Polled(Option<usize>),
    /// The poll was pending, in this operation if it is one of the library.
    Pending(Option<Operation>),
    /// The task is over.
    Ended(End),
    /// An operation of the library.
    Op(&'static str),
    /// A pass through a fault point.
    Fault(&'static str, Act),
    /// A choice was drawn.
    Choice(usize),
    /// An `always!` did not hold.
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

/// What a pass through a fault point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Nothing.
    Pass,
    /// It lets others run first.
    Yield,
    /// It waits.
    Delay(Duration),
    /// It fails.
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
