//! Every public future of the library is dropped at each of its suspensions, and interleaved under many seeds.
//!
//! A [`Driver`] lists the futures that it drives; [`listed`] fails if a future of the sources has no driver. [`planted`]
//! proves that the drivers find the planted bugs.

mod batches;
mod breakers;
mod chains;
mod containers;
mod driver;
mod eaters;
mod events;
mod generators;
mod handles;
mod leases;
mod limits;
mod listed;
mod local;
mod mines;
mod planted;
mod policies;
mod pools;
mod programs;
mod queues;
mod resources;
mod scopes;
mod sited;
mod starting;
mod streams;
mod time;
mod tokens;
mod workers;

use driver::{Driver, draw, millis, passes, swept};

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
    &handles::VALUE,
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
    &eaters::DRIVER,
    &mines::DRIVER,
];

/// Enough for every bug planted so far to be found, and for a second or so; `MOTET_RUNS` sets another number.
const SEEDS: u64 = 500;
