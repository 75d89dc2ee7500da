//! The functions of the macros, and the operations that the library reports to a simulation.

use std::num::NonZeroUsize;
use std::panic::Location;
#[cfg(feature = "cron")]
use std::time::Duration;

use super::runner::{RunProblem, What, current};

/// Returns `true` if a simulation runs on this thread.
#[must_use]
pub fn is_current() -> bool {
    current().is_some()
}

/// Returns the virtual time since the start of the current simulation; `None` outside of a simulation.
#[cfg(feature = "cron")]
pub(crate) fn now() -> Option<Duration> {
    current().map(|sim| sim.now())
}

/// Records an operation in the trace of the current simulation, such as `queue.recv`.
///
/// Traces are compared between two runs of a seed, and printed when the seed fails. Therefore record an operation where it
/// takes effect.
pub fn op(name: &'static str) {
    if let Some(sim) = current() {
        sim.record(What::Op(name));
    }
}

/// Returns one of `options` options, from the seed of the current simulation; `None` outside of a simulation.
///
/// For choices that are arbitrary in production, and that a test should explore.
#[must_use]
pub fn choice(options: NonZeroUsize) -> Option<usize> {
    let sim = current()?;
    let picked = usize::try_from(sim.draw_below(options.get() as u64)).ok()?;
    sim.record(What::Choice(picked));
    Some(picked)
}

#[doc(hidden)]
#[track_caller]
pub fn always(holds: bool, text: &'static str) {
    if !holds && let Some(sim) = current() {
        sim.record(What::Broken(text));
        sim.fail(RunProblem::Always { text, site: Location::caller() });
    }
}

#[doc(hidden)]
pub fn sometimes(holds: bool, text: &'static str) {
    if let Some(sim) = current() {
        sim.note_sometimes(text, holds);
    }
}
