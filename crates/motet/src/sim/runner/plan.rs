use std::sync::Arc;

use super::Pulse;

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The seed of all random decisions.
    pub seed: u64,
    /// The interleaving of tasks.
    pub interleaving: Interleaving,
    /// The effect of fault points.
    pub faults: Faults,
    /// The effect of a panic of a task.
    pub panics: Panics,
    /// The effect of a task that is started without a hook.
    pub foreign: ForeignTasks,
    /// The number of polls after which the run fails: of work in total, or of services while the clock stands still.
    pub step_limit: u64,
    /// The signal of progress, for a watchdog on another thread.
    pub pulse: Arc<Pulse>,
}

/// The interleaving of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interleaving {
    /// Determined by the seed.
    Seeded,
    /// Unchanged, as tokio does it; polls are only recorded.
    Plain,
}

/// The effect of fault points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Each seed enables half of the points.
    Swarm,
    /// No point is a fault.
    Off,
}

/// The effect of a task that is started without a hook, for example with `tokio::spawn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignTasks {
    /// The run fails.
    Fail,
    /// The task runs untested: not interleaved, and without a name. Only its panic is noticed.
    Allow,
}

/// The effect of a panic of a task other than the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panics {
    /// The run fails.
    Fail,
    /// The panic is only recorded in the trace, for tests of how a program handles panics.
    Record,
}
