//! The type of a driver. The tests of other crates of the workspace include this file by its path.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use motet::rng;
use motet::sim::mutants;
use motet_testkit::sim::{Failure, Panics, Sim, Sweep, sim};

use super::SEEDS;

/// Drives some public futures.
pub(crate) struct Driver {
    /// Their paths, as `listed` finds them in the sources.
    pub(crate) drives: &'static [&'static str],
    /// Drops each at all of its suspensions; panics when an invariant does not hold.
    pub(crate) cancel: fn(),
    /// Runs them under many seeds, with a bug planted or without.
    pub(crate) sweep: fn(Option<&'static str>) -> Result<Sweep, Failure>,
}

impl Driver {
    /// Returns `true` if the sweep finds the bug.
    pub(super) fn sweep_finds(&self, planted: &'static str) -> bool {
        (self.sweep)(Some(planted)).is_err()
    }

    /// Returns `true` if a drop at every suspension finds the bug.
    pub(super) fn cancel_finds(&self, planted: &'static str) -> bool {
        let _planted = mutants::enable(planted);
        catch_unwind(AssertUnwindSafe(self.cancel)).is_err()
    }
}

/// Runs a body under many seeds. A child's panic is the body's to judge.
pub(super) fn swept<F: Future<Output = ()>>(
    planted: Option<&'static str>,
    body: impl Fn() -> F,
) -> Result<Sweep, Failure> {
    with(planted, sim(body).seeds(SEEDS).panics(Panics::Record))
}

/// Runs a simulation with a bug planted or without.
pub(super) fn with<B, F>(planted: Option<&'static str>, sim: Sim<B>) -> Result<Sweep, Failure>
where
    B: Fn() -> F,
    F: Future<Output = ()>,
{
    match planted {
        Some(planted) => sim.mutant(planted).check(),
        None => sim.check(),
    }
}

#[track_caller]
pub(super) fn passes(sweep: fn(Option<&'static str>) -> Result<Sweep, Failure>) {
    if let Err(failure) = sweep(None) {
        panic!("{failure}");
    }
}

/// Draws from the seed of the run.
pub(super) fn draw(below: u64) -> u64 {
    rng::with(|rng| rng.below(below))
}

pub(super) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Lists the planted bugs as `PLANTED`, with a test `finds::BUG` for each, which calls the caller's `found`.
macro_rules! planted {
    ($($test:ident: $planted:literal, $by:expr;)*) => {
        const PLANTED: &[&str] = &[$($planted),*];
        mod finds {
            use super::*;

            $(
                #[test]
                fn $test() {
                    found($planted, &$by);
                }
            )*
        }
    };
}

pub(super) use planted;
