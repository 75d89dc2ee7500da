//! Every public future of the library is dropped at each of its suspensions, and interleaved under many seeds.
//!
//! A [`Driver`] says which ones it drives; [`listed`] fails when one in the sources has none. [`planted`]
//! shows that the drivers find the bugs that are planted there.

mod batches;
mod breakers;
mod chains;
mod containers;
mod events;
mod generators;
mod handles;
mod leases;
mod limits;
mod listed;
mod local;
mod planted;
mod policies;
mod pools;
mod programs;
mod queues;
mod resources;
mod scopes;
mod starting;
mod streams;
mod time;
mod tokens;
mod workers;

use std::time::Duration;

use motet::rng;
use motet_testkit::sim::{Failure, Panics, Sweep, sim};

/// Drives some public futures.
pub(crate) struct Driver {
    /// Their paths, as `listed` finds them in the sources.
    pub(crate) drives: &'static [&'static str],
    /// Drops each at all of its suspensions; panics when an invariant does not hold.
    pub(crate) cancel: fn(),
    /// Runs them under many seeds, with a bug planted or without.
    pub(crate) sweep: fn(Option<&'static str>) -> Result<Sweep, Failure>,
}

const DRIVERS: &[&Driver] = &[
    &batches::BATCHER,
    &batches::LOADER,
    &chains::CHAIN,
    &chains::PARTS,
    &containers::SINGLETONS,
    &containers::SCOPED,
    &scopes::DRIVER,
    &scopes::DRAIN,
    &starting::DRIVER,
    &handles::TASK,
    &handles::SHARED,
    &tokens::DRIVER,
    &resources::OWNED,
    &resources::USED,
    &local::DRIVER,
    &time::DRIVER,
    &breakers::DRIVER,
    &limits::BULKHEAD,
    &limits::RATE,
    &limits::ADAPTIVE,
    &policies::RETRY,
    &policies::PIPELINE,
    &programs::APP,
    &programs::SUPERVISOR,
    &queues::DRIVER,
    &leases::DRIVER,
    &pools::DRIVER,
    &workers::DRIVER,
    &events::EMITTED,
    &events::POSTED,
    &events::READ,
    &generators::DRIVER,
    &streams::DRIVER,
];

/// Enough for every bug planted so far to be found, and for a second or so; `MOTET_RUNS` sets another number.
const SEEDS: u64 = 500;

/// Runs a body under many seeds. A child's panic is the body's to judge.
fn swept<F: Future<Output = ()>>(
    planted: Option<&'static str>,
    body: impl Fn() -> F,
) -> Result<Sweep, Failure> {
    let mut sweep = sim(body).seeds(SEEDS).panics(Panics::Record);
    if let Some(planted) = planted {
        sweep = sweep.mutant(planted);
    }
    sweep.check()
}

#[track_caller]
fn passes(sweep: fn(Option<&'static str>) -> Result<Sweep, Failure>) {
    if let Err(failure) = sweep(None) {
        panic!("{failure}");
    }
}

/// Draws from the seed of the run.
fn draw(below: u64) -> u64 {
    rng::with(|rng| rng.below(below))
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
