use std::any::Any;
use std::collections::BTreeMap;
use std::panic::Location;
use std::time::Duration;

use super::{RunEvent, RunTask};

/// A failure of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunProblem {
    /// A task panicked.
    Panic {
        /// The name of the task.
        task: String,
        /// The message of the panic.
        message: String,
    },
    /// The condition of an `always!` was false.
    Always {
        /// The text of the condition.
        text: &'static str,
        /// The line of the condition.
        site: &'static Location<'static>,
    },
    /// No task can make progress.
    Deadlock {
        /// The time of the last progress.
        since: Duration,
    },
    /// Work continued after the limit of virtual time.
    TimeLimit,
    /// The number of polls exceeded its limit.
    StepLimit,
    /// Tasks were started without a hook.
    Foreign {
        /// The number of these tasks that are alive.
        tasks: usize,
    },
}

/// The state of a run at its first failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The failure.
    pub problem: RunProblem,
    /// The virtual time of the failure.
    pub at: Duration,
    /// The tasks that were alive.
    pub live: Vec<RunTask>,
    /// The number of earlier events.
    pub events: usize,
}

/// The result of a run.
#[derive(Debug)]
pub struct Record {
    /// All events.
    pub trace: Vec<RunEvent>,
    /// All tasks.
    pub tasks: Vec<RunTask>,
    /// The conditions of `sometimes!` that were reached; the value is `true` if the condition was true once.
    pub sometimes: BTreeMap<&'static str, bool>,
    /// The first failure.
    pub failed: Option<Failed>,
    /// The virtual duration of the run.
    pub took: Duration,
    /// The number of polls of hooked tasks.
    pub steps: u64,
}

/// The message of a panic.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a panic without text)")
}
