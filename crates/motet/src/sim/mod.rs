//! The points at which a simulation controls a program. Without the feature `sim`, they cost nothing.
//!
//! ```
//! use motet::sim::hooked;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! assert_eq!(hooked("answer", async { 42 }).await, 42);
//! # }
//! ```
//!
//! A test of `motet-testkit` runs a program many times, in virtual time, each time with another seed, which determines how
//! the tasks are interleaved. Every task of this library is polled through a [`TaskHook`], and every future of this library
//! that can wait stores the line of its call, so that a report shows where each task is suspended.
//!
//! | You want to | Use |
//! |---|---|
//! | inject delays and failures | [`fault!`](crate::fault) |
//! | state a condition that must always hold | [`always!`](crate::always) |
//! | state a condition that must hold in some run | [`sometimes!`](crate::sometimes) |
//! | plant a bug that a test has to find | [`mutant!`](crate::mutant) |
//! | simulate a task of `tokio::spawn` | [`hooked()`] |
//! | build your own spawn function | [`TaskHook`] |
//!
//! # Guarantees
//! - Without the feature `sim`, all items of this module are zero-sized and do nothing. With it, outside of a simulation, a
//!   poll costs one comparison, and a point one read of a thread-local.
//! - All random decisions depend on the seed, and are drawn on the thread of the simulation: the same seed yields the same
//!   run. Draws of the program from [`rng`](crate::rng) also depend on the seed, and do not change the interleaving.
//! - Limits: `tokio::task::unconstrained`, `Notify`, `Barrier` and the channels of other crates do not take part in tokio's
//!   budget, so the simulator does not suspend a task there. A task that is started without a hook fails the run. A
//!   `blocking` closure runs on another thread, where no condition is evaluated.

mod hooked;
mod macros;

pub use hooked::{Hooked, PollKind, hooked};

#[cfg(not(feature = "sim"))]
mod off;
#[cfg(all(feature = "cron", not(feature = "sim")))]
pub(crate) use off::now;
#[cfg(not(feature = "sim"))]
pub use off::{Fault, TaskHook, always, choice, fault, is_current, mutant, op, sometimes};
#[cfg(not(feature = "sim"))]
pub(crate) use off::{Site, around, at, at_named};

#[cfg(feature = "sim")]
mod fault;
#[cfg(feature = "sim")]
mod hook;
#[cfg(feature = "sim")]
pub mod mutants;
#[cfg(feature = "sim")]
mod points;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod runner;

#[cfg(feature = "sim")]
mod site;

#[cfg(feature = "sim")]
pub use fault::{Fault, FaultWait, fault};
#[cfg(feature = "sim")]
pub use hook::TaskHook;
#[cfg(feature = "sim")]
pub use mutants::is_enabled as mutant;
#[cfg(all(feature = "cron", feature = "sim"))]
pub(crate) use points::now;
#[cfg(feature = "sim")]
pub use points::{always, choice, is_current, op, sometimes};
#[cfg(feature = "sim")]
pub(crate) use site::{Site, around, at, at_named};
