use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::process::{ExitCode, Termination};
use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::outcome::Finished;
use super::reload::Reloads;
use super::report::ShutdownReport;
use super::root::Root;
use super::{process, sequence};
use crate::sim::Site;
use crate::task::cause::AnyError;
use crate::task::{BLOCKING_LIMIT, CancelToken, Name, Reason};

/// The phases that every program has.
pub(super) const WORK: &str = "work";
pub(super) const CLEANUP: &str = "cleanup";

const DEFAULT_BLOCKING_LIMIT: NonZeroUsize = NonZeroUsize::new(BLOCKING_LIMIT).unwrap();

/// In a mutex that is never locked: the future of the program borrows the app, and is `Send` only if the app is `Sync`.
type OnReport = Mutex<Box<dyn FnOnce(&ShutdownReport) + Send>>;

/// Sets the options of a program that shuts down in phases, and runs it. See the [module](super).
///
/// # Defaults
/// The name `app`; no phases; 5 s for the work to end; 20 s in total, well below the 30 s that Kubernetes waits; a grace
/// period of 1 s for cooperative children of the root scope; 64 closures that block at a time.
#[must_use = "an app does nothing until `run`"]
pub struct App {
    pub(super) name: Name,
    pub(super) phases: Vec<(Name, Duration)>,
    pub(super) work: Duration,
    pub(super) total: Duration,
    pub(super) grace: Duration,
    pub(super) blocking_limit: NonZeroUsize,
    pub(super) on_report: Option<OnReport>,
    pub(super) reloads_on_hangup: bool,
    pub(super) body_ends_itself: bool,
    /// The first phase whose name was taken.
    pub(super) declared_twice: Option<Name>,
}

impl App {
    /// Creates a program without phases.
    #[allow(clippy::new_without_default, reason = "`App::default().run(..)` would read as something else")]
    pub fn new() -> Self {
        Self {
            name: Name::from("app"),
            phases: Vec::new(),
            work: Duration::from_secs(5),
            total: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            blocking_limit: DEFAULT_BLOCKING_LIMIT,
            on_report: None,
            reloads_on_hangup: false,
            body_ends_itself: false,
            declared_twice: None,
        }
    }

    /// Sets the name in snapshots, logs and the report; `app` unless set.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a phase after those declared before it. Its members have `limit` to end, or the rest of the
    /// [`total`](Self::total) time if that is less. Here and below zero means no time, and
    /// [`Duration::MAX`] no limit.
    ///
    /// A name can be declared once, and the names `work` and `cleanup` are taken. Otherwise nothing is started: the
    /// outcome is [`ExitOutcome::DuplicatePhase`](super::ExitOutcome::DuplicatePhase), and [`run`](Self::run) prints it
    /// and returns exit code 1.
    pub fn phase(mut self, name: impl Into<Name>, limit: Duration) -> Self {
        let name = name.into();
        let is_taken = self.phases.iter().any(|(taken, _)| *taken == name) || name == WORK || name == CLEANUP;
        if is_taken {
            self.declared_twice.get_or_insert(name);
        } else {
            self.phases.push((name, limit));
        }
        self
    }

    /// Sets how long the shutdown waits for the root scope before the first phase begins.
    pub fn work(mut self, limit: Duration) -> Self {
        self.work = limit;
        self
    }

    /// Sets the longest time of the whole shutdown. Then the program gives up on the tasks that have not ended.
    pub fn total(mut self, limit: Duration) -> Self {
        self.total = limit;
        self
    }

    /// Sets the grace period of cooperative children of the root scope.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how many closures of the program may block at a time: see
    /// [`Scope::blocking`](crate::task::Scope::blocking).
    pub fn blocking_limit(mut self, limit: NonZeroUsize) -> Self {
        self.blocking_limit = limit;
        self
    }

    /// Takes a SIGHUP as the request to reload, for [`Root::reloads`], instead of as the request to stop.
    ///
    /// Then a SIGHUP is received also under `nohup`. In [`run_until`](Self::run_until), which handles no signal,
    /// [`Root::reload`] takes its place.
    pub fn reload_on_hangup(mut self) -> Self {
        self.reloads_on_hangup = true;
        self
    }

    /// Allows the body and its children to end by themselves when the program is asked to stop, instead of cancelling them.
    /// They learn of the stop by [`Root::stopping`].
    ///
    /// They have the time of [`work`](Self::work). When it is over, they are cancelled, the report names those that were
    /// late (`body` for the body), and the phases begin. After an error or a panic of a child, the body and the other children
    /// are cancelled at once, as without this option.
    ///
    /// # Examples
    /// ```
    /// use motet::run::{App, ExitOutcome, Root};
    /// use motet::task::Reason;
    /// use std::{convert::Infallible, time::Duration};
    /// use tokio::time::sleep;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let ctrl_c = async {
    ///     sleep(Duration::from_millis(2_500)).await;
    ///     Reason::requested("Ctrl-C")
    /// };
    /// let finished = App::new().body_ends_itself().run_until(ctrl_c, async |app: &Root<Infallible>| {
    ///     let (stopping, mut done) = (app.stopping(), 0);
    ///     while !stopping.is_cancelled() {
    ///         sleep(Duration::from_secs(1)).await; // one item of work
    ///         done += 1;
    ///     }
    ///     Ok(done)
    /// }).await;
    /// assert!(matches!(finished.outcome, ExitOutcome::Returned(3))); // the third item was finished
    /// # }
    /// ```
    pub fn body_ends_itself(mut self) -> Self {
        self.body_ends_itself = true;
        self
    }

    /// Sets a callback that receives the report of every shutdown.
    pub fn on_report(mut self, callback: impl FnOnce(&ShutdownReport) + Send + 'static) -> Self {
        self.on_report = Some(Mutex::new(Box::new(callback)));
        self
    }

    /// Runs the program, and returns its exit code.
    ///
    /// Prints errors with their causes to standard error, and the report if tasks had to be dropped.
    ///
    /// # Panics
    /// Inside of a tokio runtime: it creates its own.
    #[track_caller]
    pub fn run<T, E, F>(self, body: F) -> ExitCode
    where
        F: AsyncFnOnce(&Root<E>) -> Result<T, E>,
        T: Termination,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        process::run(self, Location::caller(), body)
    }

    /// Runs the program like [`run`](Self::run), on a runtime that the caller has built: with a number of workers, names of
    /// threads, or on the current thread alone. It is shut down at the end.
    ///
    /// # Panics
    /// Inside of a tokio runtime, and if the time of `runtime` is not enabled ([`enable_time`] or [`enable_all`]).
    ///
    /// [`enable_time`]: tokio::runtime::Builder::enable_time
    /// [`enable_all`]: tokio::runtime::Builder::enable_all
    ///
    /// # Examples
    /// ```
    /// use motet::run::{App, Root};
    /// use std::{convert::Infallible, process::ExitCode};
    /// use tokio::runtime::Builder;
    ///
    /// fn main() -> ExitCode {
    ///     let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("shop").enable_all().build();
    ///     App::new().name("shop").run_on(runtime.unwrap(), async |_: &Root<Infallible>| Ok(()))
    /// }
    /// ```
    #[track_caller]
    pub fn run_on<T, E, F>(self, runtime: Runtime, body: F) -> ExitCode
    where
        F: AsyncFnOnce(&Root<E>) -> Result<T, E>,
        T: Termination,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        process::run_on(runtime, self, Location::caller(), body)
    }

    /// Runs the program in the current runtime until it ends or `stop` is ready. Returns its outcome and the report of its
    /// shutdown.
    ///
    /// # When to use
    /// In tests of a shutdown, in virtual time and without signals, and in programs whose `main` belongs to other code. It
    /// prints nothing and handles no signal.
    ///
    /// # Drop
    /// All tasks are cancelled at once, in no order, and handed to the enclosing scope, or to [`drain`](crate::drain).
    ///
    /// # Cancel safety
    /// No task is abandoned (see Drop), but the order of the phases is lost. To stop in order, make `stop` ready.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Examples
    /// ```
    /// use motet::run::{App, ExitOutcome, Root};
    /// use motet::task::Reason;
    /// use std::{convert::Infallible, future::pending, time::Duration};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let stop = async { Reason::requested("the test is over") };
    /// let app = App::new().name("shop").phase("drain", Duration::from_secs(3));
    /// let finished = app.run_until(stop, async |app: &Root<Infallible>| {
    ///     app.in_phase("drain").service_coop("stuck", async |_| pending::<()>().await);
    ///     Ok(pending::<()>().await)
    /// }).await;
    /// assert!(matches!(finished.outcome, ExitOutcome::Stopped));
    /// let drain = finished.report.phase("drain").unwrap();
    /// assert_eq!((drain.took, drain.stuck[0].as_str()), (Duration::from_secs(3), "stuck"));
    /// # }
    /// ```
    #[track_caller]
    pub fn run_until<T, E, F, S, K>(self, stop: S, body: F) -> impl Future<Output = Finished<T, E>>
    where
        F: AsyncFnOnce(&Root<E>) -> Result<T, E>,
        E: AnyError<K> + Send + 'static,
        S: Future<Output = Reason>,
    {
        let site = Site::named("app", "run", || Some(self.name.to_string())).around();
        site.of(sequence::run(
            self,
            Location::caller(),
            CancelToken::new(),
            Reloads::new(),
            stop,
            E::cause,
            body,
        ))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.name)
            .field("phases", &self.phases)
            .field("work", &self.work)
            .field("total", &self.total)
            .field("grace", &self.grace)
            .field("blocking_limit", &self.blocking_limit)
            .field("reloads_on_hangup", &self.reloads_on_hangup)
            .field("body_ends_itself", &self.body_ends_itself)
            .finish_non_exhaustive()
    }
}
