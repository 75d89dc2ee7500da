//! Jobs that run again and again, as services of a scope.
//!
//! ```
//! use motet::periodic::every;
//! use motet::task::{Nursery, scope};
//! use std::time::Duration;
//! use tokio::time::sleep;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let refreshed = std::sync::atomic::AtomicU32::new(0);
//! # let refreshed: &'static std::sync::atomic::AtomicU32 = Box::leak(Box::new(refreshed));
//! scope(async |n: &Nursery| {
//!     let refresh = async || {
//!         refreshed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//!     };
//!     every(Duration::from_secs(60)).unwrap().name("refresh").start(n, refresh).unwrap();
//!     sleep(Duration::from_secs(200)).await; // the work of the program
//!     Ok(())
//! })
//! .await?; // the job is cancelled
//! assert_eq!(refreshed.load(std::sync::atomic::Ordering::Relaxed), 3);
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | run a job at a fixed interval | [`every`] |
#![cfg_attr(
    feature = "cron",
    doc = "| run a job at times of the calendar, by a cron expression | [`cron`] |"
)]
#![cfg_attr(feature = "cron", doc = "| set the calendar's clock, for tests | [`WallClock`] |")]
#![cfg_attr(
    not(feature = "cron"),
    doc = "| run a job at times of the calendar | `cron`, with the feature `cron` |"
)]
//! | run a job at once, and after each change of a value | a task of a scope |
//! | restart a task that fails | [`Supervisor`](crate::task::Supervisor) |
//!
//! # Guarantees
//! - **One run at a time.** A job never runs concurrently with itself. A run that is due while the previous one is still in
//!   progress is skipped, or takes place right after it ([`Periodic::queue_overlap`]); in both cases the rhythm is kept.
//! - **No drift.** Due times are computed from the start or the calendar, not from the end of the previous run. A jitter
//!   delays a run, and does not move the later ones.
//! - **A job that fails is run again.** An error or a panic is logged, counted and shown, and the next run takes place when it
//!   is due. A retry within a run is the job's own: see [`Retry`](crate::resilience::Retry).
//! - **End.** The job is a service: it is cancelled when the children of its scope have ended, at its next await.
//! - **Visible.** The snapshots of the scope show the number of runs, the last result, and the time of the next run.
//! - **Time.** [`every`] uses tokio's clock only. A cron expression refers to the calendar, whose clock can be set while the job
//!   waits: the job waits by tokio's clock for at most a minute at a time, and then reads the calendar's clock again.

#[cfg(feature = "cron")]
mod calendar;
mod error;
mod job;
mod rhythm;
mod status;
#[cfg(feature = "cron")]
mod wall_clock;

#[cfg(feature = "cron")]
pub use calendar::cron;
pub use error::PeriodicConfigError;
pub use job::{Periodic, every};
#[cfg(feature = "cron")]
pub use wall_clock::WallClock;
