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

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
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

/// Counts what is alive.
#[derive(Clone, Default)]
struct Live(Arc<AtomicUsize>);

struct Alive(Live);

impl Live {
    fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::Relaxed);
        Alive(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn read(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|noted| **noted == what).count()
    }

    /// Notes it when dropped.
    fn at_drop(&self, what: &'static str) -> Noted {
        Noted(self.clone(), what)
    }
}

struct Noted(Log, &'static str);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

/// Gives a panic of the future as a value.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn std::any::Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(payload) => Poll::Ready(Err(payload)),
    })
    .await
}
