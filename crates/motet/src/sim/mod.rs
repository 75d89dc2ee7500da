//! The points at which a simulation reaches into a program: none of them costs anything without the feature
//! `sim`.
//!
//! A test of `motet-testkit` runs a program many times, each time under another seed: in virtual time, with
//! its tasks interleaved as the seed wants it. What it needs for that inside the program is here. Every task
//! that this library starts is polled through a [`TaskHook`]; fault points ([`fault!`](crate::fault)),
//! statements ([`always!`](crate::always), [`sometimes!`](crate::sometimes)) and planted bugs
//! ([`mutant!`](crate::mutant)) are written into the code. Every future of the library that can wait has the line that
//! called it, so that a report says what each task is suspended in.
//!
//! # When to use
//! Use the macros in your own code. [`hooked()`] is for tasks that are started without a scope of this library, with
//! `tokio::spawn`, and are to be simulated all the same; a [`TaskHook`] is what it stands on.
//!
//! # Guarantees
//! - Without the feature `sim` every item here has no size and does nothing; with it, and outside a
//!   simulation, a poll costs one comparison and a point one look at a thread-local.
//! - Everything random comes from the seed, and is drawn on the simulation's thread alone: the same seed
//!   gives the same run. So does what the program draws from [`rng`](crate::rng), without shifting how its tasks
//!   are interleaved.
//! - Blind spots: `tokio::task::unconstrained`, `Notify`, `Barrier` and channels of other crates take no part
//!   in tokio's budget, so the simulator does not suspend a task there; nor does it reach a task that is
//!   started without a hook, which fails the run. A `blocking` closure is on another thread, where no statement is evaluated.
//!
//! # Examples
//! ```
//! use motet::sim::hooked;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! assert_eq!(hooked("answer", async { 42 }).await, 42);
//! # });
//! ```

mod hooked;
mod kind;
mod macros;

pub use hooked::{Hooked, hooked};
pub use kind::PollKind;

#[cfg(not(feature = "sim"))]
mod off;
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
#[cfg(feature = "sim")]
pub use points::{always, choice, is_current, op, sometimes};
#[cfg(feature = "sim")]
pub(crate) use site::{Site, around, at, at_named};
