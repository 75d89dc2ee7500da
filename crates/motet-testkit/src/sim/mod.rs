//! Runs a test under many seeds, in virtual time, with a different interleaving of its tasks each time.
//!
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
//!
//! Each seed is one run on a new single-threaded tokio runtime with a paused clock. Before each poll of a task the seed
//! decides: postpone the poll, leave it at most two operations of tokio's coop budget so that the next one suspends it,
//! or leave it alone. Every await on tokio or on motet becomes a point at which other tasks may run. A bug that depends
//! on the order of tasks is found, and found again under the same seed.
//!
//! | You want to | Use |
//! |---|---|
//! | run a test under many seeds | [`sim()`], [`Sim::seeds`] |
//! | drop one future at each of its awaits | [`cancel_everywhere`](crate::cancel_everywhere) |
//! | inject faults | [`fault!`](motet::fault), [`Sim::faults`] |
//! | state what must hold, in every run or in some run | [`always!`](motet::always), [`sometimes!`](motet::sometimes), [`Sim::must_see`] |
//! | show that a test finds a bug | [`mutant!`](motet::mutant), [`Sim::mutant`] |
//! | replay a failed run | `MOTET_SEED=17 cargo test ..`, which the report prints |
//!
//! # What fails a run
//! - a panic of the body, or of any other task;
//! - a task that is started with `tokio::spawn`, unless that is allowed;
//! - an `always!` that does not hold;
//! - a deadlock: no task runs any more, up to twice the limit of virtual time;
//! - more polls, or more virtual time, than the limits;
//! - a task that is still alive when the body has ended, and that waits for time or without end;
//! - a second run of the same seed with a different trace ([`SelfCheck`]).
//!
//! The sweep over all seeds also fails if a `sometimes!` was never true. Real time is only watched for a poll that does
//! not return: after a minute its task is named and the process is aborted, since a thread cannot be stopped.
//!
//! # The report
//! The reason, the last events, and each task that is alive: the site of its spawn, and the operation of motet that it
//! is suspended in, with the name of the queue, pool or scope, the line of the caller, and the enclosing operations:
//! `queue "orders": send at src/main.rs:17:18, within scope "shop": run at src/main.rs:9:5`. Futures of other crates
//! are not known: for these, the report names the enclosing operation of motet, or the last one of the task.
//!
//! # Environment
//! - `MOTET_SEED=17`: only this seed; the `sometimes!` of the sweep are not checked.
//! - `MOTET_RUNS=10000`: this number of seeds, from the first seed of the test.
//!
//! # Limits
//! - A sweep is a sample, not a proof. A run has one thread, so it finds no data races and no errors of memory ordering.
//! - The random choice of tokio's `select!` cannot be seeded on stable: write `biased`. The self-check finds a `select!`
//!   without it, iteration over a `HashMap` of the standard library, and real clocks.
//! - A closure given to `blocking` runs on its own thread, in real time. Its duration depends on no seed, so the self-check
//!   fails; its `always!` and `sometimes!` are not evaluated, since the simulation belongs to another thread. Assert on its
//!   result after the await.
//! - **A task started with `tokio::spawn` is not tested**: it runs, but is neither named nor interleaved. It fails the run
//!   ([`ForeignTasks`]), unless it begins and ends within one step of another task.
//! - A seed is valid for one `Cargo.lock`: another version of tokio may poll in another order.

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
