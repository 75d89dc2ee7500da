use std::error::Error;
use std::panic::Location;
use std::time::Duration;

use motet::sim::runner::{Event, Problem, Task};

use super::ending::Leftovers;

/// Why a simulation failed, with all that is known about it. `Display` gives the report.
#[derive(Debug, Clone)]
pub struct Failure(pub(super) Box<Details>);

#[derive(Debug, Clone)]
pub(super) struct Details {
    pub(super) test: Option<String>,
    pub(super) cause: Cause,
    /// `None` when the sweep as a whole failed.
    pub(super) run: Option<FailedRun>,
}

#[derive(Debug, Clone)]
pub(super) struct FailedRun {
    pub(super) place: Place,
    pub(super) at: Duration,
    pub(super) trace: Vec<Event>,
    pub(super) tasks: Vec<Task>,
    pub(super) live: Vec<Task>,
    pub(super) replays: bool,
}

/// Which run of the sweep it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) seed: u64,
    pub(super) index: u64,
    pub(super) of: u64,
}

/// What failed a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A task panicked, or the body, which is a task by that name.
    Panicked {
        /// Its name.
        task: String,
        /// What the panic said.
        message: String,
    },
    /// An `always!` did not hold.
    Broken {
        /// What should have held.
        text: &'static str,
        /// The line that says so.
        site: &'static Location<'static>,
    },
    /// No work could go on.
    Deadlock {
        /// The virtual time at which work ran last.
        since: Duration,
    },
    /// Work went on beyond the limit of virtual time.
    TimeLimit,
    /// There were more polls than the limit.
    StepLimit,
    /// Tasks were started past the library, with `tokio::spawn`: they are not tested.
    Foreign {
        /// How many were alive when it was noticed.
        tasks: usize,
    },
    /// Tasks were alive after the body.
    LeftOver {
        /// The names of those that have one.
        names: Vec<String>,
        /// How many were spawned past the library.
        unnamed: usize,
    },
    /// A second run of the same seed went differently.
    Nondeterministic {
        /// The place of the first event that differed.
        event: usize,
        /// That event in the first run; `None` when the run was over.
        first: Option<String>,
        /// That event in the second run.
        second: Option<String>,
    },
    /// A `sometimes!` was not true in any run of the sweep.
    NeverTrue {
        /// Their texts.
        texts: Vec<String>,
    },
    /// A setting cannot be read, or leaves nothing to run.
    Settings(String),
}

impl From<&Leftovers> for Cause {
    fn from(left: &Leftovers) -> Self {
        let names = left.named.iter().map(|task| task.name.clone()).collect();
        Self::LeftOver { names, unnamed: left.unnamed }
    }
}

impl From<Problem> for Cause {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Panic { task, message } => Self::Panicked { task, message },
            Problem::Always { text, site } => Self::Broken { text, site },
            Problem::Deadlock { since } => Self::Deadlock { since },
            Problem::TimeLimit => Self::TimeLimit,
            Problem::StepLimit => Self::StepLimit,
            Problem::Foreign { tasks } => Self::Foreign { tasks },
        }
    }
}

impl Failure {
    /// Says what failed it.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// Gives the seed of the run that failed; `None` when the sweep as a whole did.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.0.run.as_ref().map(|run| run.place.seed)
    }

    /// Gives the virtual time at which the run failed.
    #[must_use]
    pub fn virtual_time(&self) -> Option<Duration> {
        self.0.run.as_ref().map(|run| run.at)
    }

    /// Lists all events of the run, a line each.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        let Some(run) = &self.0.run else { return Vec::new() };
        run.trace.iter().map(|event| super::report::line(event, &run.tasks)).collect()
    }

    /// Lists the tasks that were alive when the run failed, a line each: where it was spawned, and what it is suspended in.
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
