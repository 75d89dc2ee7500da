//! Structured concurrency for tokio, and the parts around it: scopes, queues, pools, batches, retries, lifecycles.
//!
//! ```
//! use motet::task::{Nursery, scope};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sum = scope(async |n: &Nursery<std::num::ParseIntError>| {
//!     // The two tasks run concurrently. If one fails, the other is cancelled.
//!     let a = n.try_spawn("a", async { "40".parse::<u32>() });
//!     let b = n.try_spawn("b", async { "2".parse::<u32>() });
//!     Ok(a.await.unwrap_or(0) + b.await.unwrap_or(0))
//! })
//! .await?; // every task has ended here
//! assert_eq!(sum, 42);
//! # Ok(())
//! # }
//! ```
//!
//! All modules keep the same promises: no task outlives the scope that started it, every buffer is bounded, a refused input
//! is handed back, dropping a future at any await loses no item that was accepted, and a program can be observed and tested
//! in virtual time.
//!
//! # Modules
//! | You want to | Use |
//! |---|---|
//! | run tasks concurrently, and wait for the end of each | [`task`] |
//! | restart tasks that fail | [`Supervisor`](task::Supervisor) |
//! | release a resource with an `await`, on every path | [`resource`] |
//! | write `main`: signals, shutdown in phases, an exit code | [`run`](mod@run) |
//! | pass items from task to task, bounded, and know when they are done | [`queue`] |
//! | handle the items of many callers in batches | [`batch`] |
//! | reuse connections | [`pool`] |
//! | protect calls that can fail: timeout, retry, circuit breaker | [`resilience`] |
//! | add code around every call of a handler | [`middleware`] |
//! | notify listeners of an event | [`event`] |
//! | write a stream, or process its items on many cores | [`stream`] |
//! | build a program from components, and start and stop them in the order of their dependencies | [`container`] |
//! | run a job at an interval, or at times of the calendar | [`periodic`] |
//! | see which tasks and components exist | [`observe`] |
//! | wait between attempts | [`Backoff`] |
//! | draw random numbers that a test can repeat | [`rng`] |
//! | give a simulation access to a program | [`sim`], and the crate `motet-testkit` for the tests |
//!
//! # Features
//! The features up to `full` are enabled by default. With `default-features = false`, only [`task`], [`resource`],
//! [`observe`], [`rng`], [`sim`] and [`Backoff`] are compiled.
//!
//! | Feature | Effect |
//! |---|---|
//! | `batch`, `container`, `event`, `middleware`, `periodic`, `pool`, `queue`, `resilience`, `run`, `stream` | the module with this name |
//! | `json` | [`ScopeView::to_json`](observe::ScopeView::to_json) |
//! | `full` | all of the features above |
//! | `metrics` | [`observe`]: the numbers of all components, through the facade `metrics`, for Prometheus and others |
//! | `systemd` | [`run`](mod@run): readiness and the shutdown are reported to systemd |
//! | `tokio-util` | [`task`]: a `CancelToken` from and to a `CancellationToken` of tokio-util |
//! | `cron` | [`periodic`]: jobs at times of the calendar, in UTC or in a time zone of [jiff](https://docs.rs/jiff) |
//! | `sim` | lets the simulator of `motet-testkit` control the program; outside of a simulation nothing changes. For dev-dependencies |
//!
//! # Limits
//! motet runs on tokio: it has no runtime of its own, no effect type, and no macros to learn. Panics have to unwind: with
//! `panic = "abort"` the first panic ends the process.

#![cfg_attr(
    not(feature = "full"),
    allow(dead_code, unused_imports, unused_macros, reason = "for other features")
)]

mod backoff;
#[cfg(feature = "batch")]
pub mod batch;
#[cfg(feature = "container")]
pub mod container;
#[cfg(feature = "event")]
pub mod event;
mod log;
#[cfg(feature = "middleware")]
pub mod middleware;
pub mod observe;
#[cfg(feature = "periodic")]
pub mod periodic;
#[cfg(feature = "pool")]
pub mod pool;
#[cfg(feature = "queue")]
pub mod queue;
#[cfg(feature = "resilience")]
pub mod resilience;
pub mod resource;
pub mod rng;
#[cfg(feature = "run")]
pub mod run;
pub mod sim;
#[cfg(feature = "stream")]
pub mod stream;
mod sync;
pub mod task;

pub use backoff::{Backoff, BackoffConfigError, Jitter};
#[cfg(feature = "run")]
pub use run::{App, run};
pub use task::drain;
