//! Runs a test under many seeds: in virtual time, with its tasks interleaved differently each time.
//!
//! Each seed is one run on a fresh single-threaded tokio runtime with a paused clock. Before each poll of a
//! task the seed decides: put the poll off, leave it no more than two operations of tokio's budget so that
//! the next one suspends it, or leave it alone. Every await on tokio or on this library becomes a place where
//! others may get in between; what the order of tasks decides is found, and found again under the same seed.
//!
//! # When to use
//! For what several tasks do together. For one future that is dropped half-way use
//! [`cancel_everywhere`](crate::cancel_everywhere).
//!
//! # What fails a run
//! - a panic of the body, or of any other task;
//! - a task that is started past this library, with `tokio::spawn`, unless it is allowed;
//! - an `always!` that does not hold;
//! - a deadlock, found at once: the clock has nowhere to jump to but the limit of virtual time;
//! - more polls, or more virtual time, than the limits;
//! - a task that is still alive after the body, once all that can run without the clock has run;
//! - a second run of the same seed that goes differently ([`SelfCheck`]).
//!
//! And the sweep over all seeds fails when a `sometimes!` was never true. Real time is watched only for a
//! poll that does not return: after a minute it is named, and the process aborted, since no thread can stop
//! another.
//!
//! # What a report says
//! What failed, the last events, and each task that is alive: where it was spawned, and what it is suspended in. That is the
//! operation of motet, with the name of the queue, the pool or the scope and the line that called it, and what it is
//! within: `queue "orders": send at src/main.rs:17:18, within scope "shop": run at src/main.rs:9:5`. Futures of other crates
//! are not known: for one of those the report says what is around it, or what the task waited for before.
//!
//! # Environment
//! - `MOTET_SEED=17`: only this seed; what was to be seen over the whole sweep is not asked for.
//! - `MOTET_RUNS=10000`: so many seeds, from the first one of the test.
//!
//! # Limits
//! - Probability, not proof; and one thread, so no data races and no memory orderings.
//! - The coin tosses of tokio's own `select!` cannot be seeded on stable: write `biased`. The self-check finds
//!   what forgets it, and iteration over a `HashMap` of the standard library, and real clocks.
//! - A closure given to `blocking` runs on a thread of its own, in real time. When it answers depends on no seed,
//!   so the self-check fails; and its `always!` and `sometimes!` are not evaluated, since the simulation is
//!   another thread's. State after the await what must hold of its answer.
//! - **A task started with `tokio::spawn` is not tested**: it runs, but is neither named nor interleaved. It fails the run
//!   ([`ForeignTasks`]), unless it begins and ends within one step of another.
//! - A seed is valid for one `Cargo.lock`: another tokio may poll in another order.
//!
//! # Examples
//! ```
//! use motet_testkit::sim::sim;
//! use tokio::sync::Mutex;
//!
//! let sweep = sim(|| async {
//!     let total = Mutex::new(0);
//!     let add = async |n| *total.lock().await += n;
//!     tokio::join!(add(1), add(2));
//!     motet::always!(*total.lock().await == 3, "no update is lost");
//! })
//! .seeds(50)
//! .run();
//! assert!(sweep.runs() >= 1);
//! ```

mod builder;
mod driver;
mod ending;
mod failure;
mod real_io;
mod report;
mod seeds;
mod sweep;
mod watchdog;

pub(crate) use builder::Io;
pub use builder::{SelfCheck, Sim, sim};
pub(crate) use driver::{hooked, measure_budget, runtime};
pub(crate) use ending::{alive, settled};
pub use failure::{Cause, Failure};
#[doc(inline)]
pub use motet::sim::runner::{Faults, ForeignTasks, Panics};
pub use real_io::real_io;
pub(crate) use report::write_events;
pub use seeds::Seeds;
pub use sweep::Sweep;
