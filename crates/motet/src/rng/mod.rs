//! Random numbers with a seed: a generator, and one generator per thread.
//!
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
//!
//! All random decisions of this crate, such as the jitter of a [`Backoff`](crate::Backoff) or the lifetime of a pooled
//! connection, use [`with`]. In production, each thread takes its seed from the operating system. In a test,
//! [`seed_thread`] makes the decisions of the current thread reproducible: on a current-thread runtime, those of the whole
//! program.
//!
//! | You want to | Use |
//! |---|---|
//! | draw numbers that a simulation can reproduce | [`with`] |
//! | make a test reproducible | [`seed_thread`] |
//! | draw from a generator that no other code uses | [`Rng`] |
//!
//! None of them is for secrets: an attacker can compute the next numbers from a few previous ones.

mod generator;
mod thread;

pub use generator::Rng;
#[cfg(feature = "sim")]
pub(crate) use thread::SeedGuard;
pub(crate) use thread::aside;
pub use thread::{seed_thread, with};
