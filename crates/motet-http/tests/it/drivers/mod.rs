//! Every public future of the crate is dropped at each of its suspensions, and interleaved under many seeds: against a
//! server in memory, in virtual time.

mod answers;
mod backend;
mod bounds;
mod bridges;
mod calls;
#[path = "../../../../motet/tests/it/drivers/driver.rs"]
mod driver;
#[path = "../../../../motet/tests/it/drivers/listed.rs"]
mod listed;
mod memory;
mod planted;
mod sending;
mod serving;
mod unread;

use driver::{Driver, draw, millis, passes, swept, with};

const DRIVERS: &[&Driver] = &[
    &bounds::DRIVER,
    &calls::DRIVER,
    &answers::DRIVER,
    &sending::DRIVER,
    &serving::DRIVER,
    &unread::DRIVER,
    &bridges::DRIVER,
    &memory::DRIVER,
];

/// Fewer than those of the library: a run is a hundred times as long, with connections and all that hyper does on them.
const SEEDS: u64 = 120;
