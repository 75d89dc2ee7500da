//! The one source of chance: a seedable generator, and one per thread.
//!
//! Whatever in this crate draws lots - jitter of a [`Backoff`](crate::Backoff), the lifetime of a pooled
//! connection - draws from [`with`]. In production each thread seeds its generator from the operating system.
//! Under test, [`seed_thread`] makes everything that runs on the current thread repeat exactly, which on a
//! current-thread runtime is the whole program.
//!
//! # When to use
//! [`with`] inside a component, so that a simulation controls it; an [`Rng`] of your own where a test or a
//! simulator needs a stream that nothing else draws from. Neither is for secrets: the numbers can be
//! foreseen from a few of their predecessors.
//!
//! # Examples
//! ```
//! use motet::rng;
//!
//! let draw = || rng::with(|rng| (rng.next_u64(), rng.unit()));
//!
//! let first = {
//!     let _seeded = rng::seed_thread(17);
//!     draw()
//! };
//! let _seeded = rng::seed_thread(17);
//! assert_eq!(draw(), first);
//! ```

mod generator;
mod thread;

pub use generator::Rng;
pub(crate) use thread::aside;
pub use thread::{SeedGuard, seed_thread, with};
