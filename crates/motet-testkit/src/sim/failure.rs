use std::error::Error;
use std::panic::Location;
use std::time::Duration;

use motet::sim::runner::{RunEvent, RunProblem, RunTask};

use super::ending::Leftovers;

/// A failed simulation. `Display` prints the report.
#[derive(Debug, Clone)]
pub struct Failure(pub(super) Box<Details>);

#[derive(Debug, Clone)]
pub(super) struct Details {
    pub(super) test: Option<String>,
    pub(super) cause: Cause,
    /// `None` if the sweep as a whole failed.
    pub(super) run: Option<FailedRun>,
}

#[derive(Debug, Clone)]
pub(super) struct FailedRun {
    pub(super) place: Place,
    pub(super) at: Duration,
    pub(super) trace: Vec<RunEvent>,
    pub(super) tasks: Vec<RunTask>,
    pub(super) live: Vec<RunTask>,
    pub(super) replays: bool,
}

/// The position of a run in the sweep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) seed: u64,
    pub(super) index: u64,
    pub(super) of: u64,
}

/// The reason of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A task panicked, or the body, which is a task with that name.
    Panicked {
        /// The name of the task.
        task: String,
        /// The message of the panic.
        message: String,
    },
    /// An `always!` did not hold.
    Broken {
        /// The text of the `always!`.
        text: &'static str,
        /// The file and line of the `always!`.
        site: &'static Location<'static>,
    },
    /// No task could make progress.
    Deadlock {
        /// The virtual time of the last progress.
        since: Duration,
    },
    /// The run exceeded its limit of virtual time.
    TimeLimit,
    /// The run exceeded its limit of polls.
    StepLimit,
    /// Tasks were started with `tokio::spawn`, so they were not tested.
    Foreign {
        /// The number of these tasks when they were noticed.
        tasks: usize,
    },
    /// Tasks outlived the body.
    LeftOver {
        /// The names of the named tasks.
        names: Vec<String>,
        /// The number of tasks that were started with `tokio::spawn`.
        unnamed: usize,
    },
    /// A second run of the same seed had a different trace.
    Nondeterministic {
        /// The index of the first different event.
        event: usize,
        /// The event in the first run, or `None` if the run had ended.
        first: Option<String>,
        /// The event in the second run.
        second: Option<String>,
    },
    /// A `sometimes!` was not true in any run of the sweep.
    NeverTrue {
        /// The texts of these `sometimes!`.
        texts: Vec<String>,
    },
    /// A setting is invalid, or leaves no seeds to run.
    Settings(String),
}

impl From<&Leftovers> for Cause {
    fn from(left: &Leftovers) -> Self {
        let names = left.named.iter().map(|task| task.name.clone()).collect();
        Self::LeftOver { names, unnamed: left.unnamed }
    }
}

impl From<RunProblem> for Cause {
    fn from(problem: RunProblem) -> Self {
        match problem {
            RunProblem::Panic { task, message } => Self::Panicked { task, message },
            RunProblem::Always { text, site } => Self::Broken { text, site },
            RunProblem::Deadlock { since } => Self::Deadlock { since },
            RunProblem::TimeLimit => Self::TimeLimit,
            RunProblem::StepLimit => Self::StepLimit,
            RunProblem::Foreign { tasks } => Self::Foreign { tasks },
        }
    }
}

impl Failure {
    /// Returns the reason.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// Returns the seed of the failed run, or `None` if the sweep as a whole failed.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.0.run.as_ref().map(|run| run.place.seed)
    }

    /// Returns the virtual time of the failure.
    #[must_use]
    pub fn virtual_time(&self) -> Option<Duration> {
        self.0.run.as_ref().map(|run| run.at)
    }

    /// Returns all events of the run, one per line.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        let Some(run) = &self.0.run else { return Vec::new() };
        run.trace.iter().map(|event| super::report::line(event, &run.tasks)).collect()
    }

    /// Returns the tasks that were alive at the failure, one per line, each with the site of its spawn and the operation
    /// that it is suspended in.
    #[must_use]
    pub fn live_tasks(&self) -> Vec<String> {
        let Some(run) = &self.0.run else { return Vec::new() };
        run.live.iter().map(ToString::to_string).collect()
    }

    pub(super) fn of_sweep(test: Option<String>, cause: Cause) -> Self {
        Self(Box::new(Details { test, cause, run: None }))
    }
}

impl Error for Failure {}
