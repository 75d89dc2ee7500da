use std::any::Any;
use std::collections::BTreeMap;
use std::panic::Location;
use std::time::Duration;

use super::{Event, Task};

/// What can go wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A task panicked.
    Panic {
        /// Its name.
        task: String,
        /// What the panic said.
        message: String,
    },
    /// An `always!` did not hold.
    Always {
        /// What should have held.
        text: &'static str,
        /// The line.
        site: &'static Location<'static>,
    },
    /// No work can go on.
    Deadlock {
        /// When work last ran.
        since: Duration,
    },
    /// Work went on beyond the limit of virtual time.
    TimeLimit,
    /// More polls than the limit.
    StepLimit,
    /// Tasks were started past the library.
    Foreign {
        /// How many are alive.
        tasks: usize,
    },
}

/// The state of a run when the first thing went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What went wrong.
    pub problem: Problem,
    /// The virtual time then.
    pub at: Duration,
    /// The tasks alive then.
    pub live: Vec<Task>,
    /// How many events had happened.
    pub events: usize,
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Record {
    /// Everything that happened.
    pub trace: Vec<Event>,
    /// All tasks.
    pub tasks: Vec<Task>,
    /// The conditions of `sometimes!` that were reached, and whether they were ever true.
    pub sometimes: BTreeMap<&'static str, bool>,
    /// The first thing that went wrong.
    pub failed: Option<Failed>,
    /// The virtual time it took.
    pub took: Duration,
    /// Polls of hooked tasks.
    pub steps: u64,
}

/// What a panic said.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a panic without text)")
}
