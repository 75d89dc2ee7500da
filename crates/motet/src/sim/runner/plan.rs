use std::sync::Arc;

use super::Pulse;

/// What one run is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All chance of the run comes from it.
    pub seed: u64,
    /// How tasks are interleaved.
    pub interleaving: Interleaving,
    /// What fault points do.
    pub faults: Faults,
    /// What the panic of a task does.
    pub panics: Panics,
    /// What a task does that is started past the library.
    pub foreign: ForeignTasks,
    /// Polls of work, in all, or of services without the clock moving, after which the run fails.
    pub step_limit: u64,
    /// Where a watchdog on another thread can see that the run goes on.
    pub pulse: Arc<Pulse>,
}

/// Tells how tasks are interleaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interleaving {
    /// As the seed wants it.
    Seeded,
    /// As tokio does it, only recorded.
    Plain,
}

/// Tells what fault points do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Each seed enables half of the points.
    Swarm,
    /// None is ever a fault.
    Off,
}

/// Tells what a task means that is started past the library, with `tokio::spawn`, and not polled through a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignTasks {
    /// It fails the run.
    Fail,
    /// It runs, untested: not interleaved, and without a name. Only its panic is noticed.
    Allow,
}

/// Tells what the panic of a task other than the body means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panics {
    /// It fails the run.
    Fail,
    /// It is recorded in the trace only: for tests of what a program does about panics.
    Record,
}
