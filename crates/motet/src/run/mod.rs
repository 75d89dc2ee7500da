//! The program as a scope: its runtime, its signals, its shutdown in phases, its exit code.
//!
//! [`run()`] is `main` for programs whose children may end in any order; [`App`] is for those that have to end
//! in phases: first what takes requests, then what flushes, then what is flushed to.
//!
//! # The shutdown
//! It begins when SIGINT, SIGTERM or SIGHUP arrives, when the work is done (the body has returned and all its children
//! have ended), when the body or a child fails, and when a member of a phase fails or panics. Then, one after
//! the other:
//! 1. *work*: body and children of the root scope are cancelled, then its services; its resources are released;
//! 2. each phase in the order of its declaration: its members are told, and dropped when its time is over;
//! 3. *cleanup*: what any of these left behind is waited for, and what has no scope around it
//!    ([`drain`](crate::drain)).
//!
//! When the total time is over, `run` gives up: the one place where something is left behind. A [`ShutdownReport`] says
//! what took how long, and who had to be dropped.
//!
//! # Signals
//! The first SIGINT, SIGTERM or SIGHUP begins the shutdown; a SIGHUP that the process ignored when it started, as under
//! `nohup`, stays ignored. A further signal within a second belongs to the first, since `timeout(1)` and shells signal
//! a process and its group. After that second a SIGINT ends the process at once, with code 130. A SIGTERM or SIGHUP
//! never shortens the shutdown: it ends by itself after its total time, and what sends them has SIGKILL. SIGUSR1 prints the live tasks to the standard error. Handlers stay for the life of the process, even when
//! `run` has returned.
//!
//! # Standard error
//! What is printed there, by `run` and by logs that are written through [`stderr()`], can neither fail nor wait: a pipe that is
//! not read, or a disk that is full, costs lines and nothing else.
//!
//! # Exit codes
//! What the body's value reports (`()` is 0), also when the program was asked to stop; 1 after an error or a
//! failed release; 101 after a panic; 124 when the total time was over, as from `timeout(1)`.
//!
//! # Examples
//! ```
//! use motet::run::{App, Root};
//! use motet::task::CancelToken;
//! use std::{io, process::ExitCode, time::Duration};
//!
//! fn main() -> ExitCode {
//!     App::new().name("shop")
//!         .phase("drain", Duration::from_secs(10))
//!         .phase("flush", Duration::from_secs(5))
//!         .total(Duration::from_secs(20))
//!         .run(async |app: &Root<io::Error>| {
//!             let drain = app.in_phase("drain");
//!             drain.service_coop("http", async |cx: CancelToken| {
//!                 cx.cancelled().await; // and finish the requests in flight
//!             });
//!             app.in_phase("flush").service("metrics", std::future::pending::<()>());
//!             Ok(()) // a server would wait here
//!         })
//! }
//! ```

mod app;
mod live;
mod outcome;
mod phase;
mod process;
mod report;
mod root;
mod sequence;
mod shared;
mod signals;
mod stderr;

use std::error::Error;
use std::process::{ExitCode, Termination};

pub use app::App;
pub use outcome::{ExitOutcome, Finished};
pub use phase::Phase;
pub use report::{PhaseReport, ShutdownReport};
pub use root::Root;
pub use stderr::{StderrStats, flush_stderr, stderr, stderr_stats};

use crate::task::Nursery;

/// Runs the program: a multi-thread runtime, a root scope with `body` in it, signals and shutdown.
///
/// # When to use
/// As all of `main`, where the order of the shutdown does not matter; [`App`] where it does. For what happens in
/// which order and for the exit codes, see the [module](self).
///
/// # Panics
/// Inside of a tokio runtime: it makes its own.
///
/// # Examples
/// ```
/// use motet::task::Nursery;
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     motet::run(async |root: &Nursery<std::io::Error>| {
///         let answer = root.spawn("answer", async { 42 });
///         assert_eq!(answer.await.unwrap(), 42);
///         Ok(())
///     })
/// }
/// ```
#[track_caller]
pub fn run<T, E, F>(body: F) -> ExitCode
where
    F: AsyncFnOnce(&Nursery<E>) -> Result<T, E>,
    T: Termination,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    App::new().name("main").run(async move |root: &Root<E>| {
        let nursery: &Nursery<E> = root;
        body(nursery).await
    })
}
