//! The functions behind the macros, and what the library tells a simulation about itself.

use std::num::NonZeroUsize;
use std::panic::Location;

use super::runner::{Problem, What, current};

/// Tells whether a simulation runs on this thread.
#[must_use]
pub fn is_current() -> bool {
    current().is_some()
}

/// Records an operation in the trace of the current simulation, such as `queue.recv`.
///
/// Traces are compared between two runs of a seed and printed when it fails, so an operation belongs in it
/// where it takes effect.
pub fn op(name: &'static str) {
    if let Some(sim) = current() {
        sim.record(What::Op(name));
    }
}

/// Draws one of so many options from the seed of the current simulation; `None` outside one.
///
/// For choices that are arbitrary in production and are to be explored in a test.
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
        sim.fail(Problem::Always { text, site: Location::caller() });
    }
}

#[doc(hidden)]
pub fn sometimes(holds: bool, text: &'static str) {
    if let Some(sim) = current() {
        sim.note_sometimes(text, holds);
    }
}
