//! A program as a scope: its runtime, its signals, its shutdown in phases, its exit code.
//!
//! ```
//! use motet::task::Nursery;
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     motet::run(async |root: &Nursery<std::io::Error>| {
//!         root.service("metrics", async {}); // until the program ends, SIGTERM included
//!         Ok(()) // a server would wait here
//!     })
//! }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | run a program whose tasks may end in any order | [`run()`] |
//! | shut down in phases: first the listeners, then the buffers, then the connections | [`App`] |
//! | choose the runtime: its workers, its names, the current thread | [`App::run_on`] |
//! | let the body end by itself at Ctrl-C | [`App::body_ends_itself`], with [`Root::stopping`] |
//! | reload on SIGHUP | [`App::reload_on_hangup`], with [`Root::reloads`] |
//! | report to systemd that the program is ready | [`Root::ready`], with the feature `systemd` |
//! | test a shutdown in virtual time | [`App::run_until`] |
//! | write logs that neither fail nor block | [`stderr()`] |
//!
//! # Shutdown
//! The shutdown begins when SIGINT, SIGTERM or SIGHUP arrives, when the work is finished (the body has returned and all its
//! children have ended), when the body or a child fails, and when a member of a phase fails or panics. Then follow, one after
//! the other:
//! 1. *work*: the body and the children of the root scope are cancelled, then its services; its resources are released. With
//!    [`App::body_ends_itself`] the body and the children have the time of this phase to end, and are cancelled after it;
//! 2. each phase, in the order of declaration: the tokens of its members are cancelled, and a member that has not ended within
//!    the phase's time is dropped;
//! 3. *cleanup*: the program waits for the tasks that these phases left behind, and for those without an enclosing scope
//!    ([`drain`](crate::drain)).
//!
//! When the total time is over, `run` gives up and leaves tasks behind; no other path does. A [`ShutdownReport`] has the
//! duration of each phase and the names of the members that were dropped.
//!
//! # Signals
//! The first SIGINT, SIGTERM or SIGHUP begins the shutdown. A SIGHUP that the process ignored when it started, as under
//! `nohup`, stays ignored. With [`App::reload_on_hangup`] a SIGHUP requests a reload, and no stop. A further signal within a second counts as part of the first, since `timeout(1)` and shells signal
//! a process and its group. After that second a SIGINT ends the process at once, with code 130. A SIGTERM or SIGHUP never
//! shortens the shutdown: it ends by itself after its total time, and the sender can use SIGKILL. SIGUSR1 prints the live
//! tasks to standard error. The signal handlers stay installed for the lifetime of the process, even when `run` has returned.
//!
//! # Standard error
//! Output to standard error, by `run` and by logs that are written through [`stderr()`], neither fails nor blocks: if standard
//! error is a pipe without a reader or a full disk, lines are lost, and the program continues.
//!
//! # Exit codes
//! | Code | Cause |
//! |---|---|
//! | the code of the body's value (0 for `()`) | the body returned, or the program was asked to stop |
//! | 1 | an error, a failed release, or a phase that is declared twice |
//! | 101 | a panic |
//! | 124 | the total time was over, as with `timeout(1)` |
//! | 130 | a second SIGINT |
//!
//! # Examples
//! ```
//! use motet::run::{App, Root};
//! use motet::task::CancelToken;
//! use std::{io, process::ExitCode, time::Duration};
//!
//! fn main() -> ExitCode {
//!     App::new()
//!         .name("shop")
//!         .phase("drain", Duration::from_secs(10))
//!         .phase("flush", Duration::from_secs(5))
//!         .total(Duration::from_secs(20))
//!         .run(async |app: &Root<io::Error>| {
//!             app.in_phase("drain").service_coop("http", async |stop: CancelToken| {
//!                 stop.cancelled().await; // and finish the requests in flight
//!             });
//!             app.in_phase("flush").service("metrics", std::future::pending::<()>());
//!             Ok(()) // a server would wait here
//!         })
//! }
//! ```

mod app;
mod outcome;
mod phase;
mod process;
mod ready;
mod reload;
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
pub use reload::Reloads;
pub use report::{PhaseReport, ShutdownReport};
pub use root::Root;
pub use stderr::{StderrStats, flush_stderr, stderr, stderr_stats};

use crate::task::Nursery;

/// Runs the program: creates a multi-thread runtime, runs `body` in a root scope, handles signals, and shuts down.
///
/// # When to use
/// As the whole of `main`, if the tasks of the program may end in any order; otherwise use [`App`]. The [module](self)
/// describes the shutdown and the exit codes.
///
/// # Panics
/// Inside of a tokio runtime: it creates its own.
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
