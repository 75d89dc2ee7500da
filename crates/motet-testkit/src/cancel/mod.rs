//! Drops a future at every place where it can be dropped.
//!
//! A future can be cancelled wherever it suspends. Which awaits suspend depends on the day: one whose value
//! is ready does not. Here the first poll has nothing of tokio's budget and each further one a single
//! operation of it, so that each operation suspends, ready or not; and the future is dropped after its first
//! suspension, in a run of its own after its second, and so on, until it comes to its end.
//!
//! # Limits
//! Operations outside tokio's budget (`Notify`, `Barrier`, `tokio::task::unconstrained`, channels of other
//! crates) suspend only when they have to. Tasks that the operation spawns run as they always do, in virtual
//! time.
//!
//! # When to use
//! For one future and all places where it can be dropped. For what several tasks do together use
//! [`sim`](crate::sim()).

mod driver;
mod run;

pub use driver::CancelEverywhere;

/// Drops an operation at each of its suspensions, and checks an invariant after each; with the defaults of
/// [`CancelEverywhere`].
///
/// `setup` makes the state of one run. `operation` is what is dropped. `invariant` asserts what must hold
/// then, and learns how the operation ended; it may await what needs time, such as a background task that
/// puts things right.
///
/// # Panics
/// When the invariant, the operation or a task panics, with the number of the suspension and the last
/// events; when an `always!` does not hold; when set-up, operation or invariant do not end; when the
/// operation ends before a suspension that it had in the first run; when tasks are alive after the invariant
/// and the drop of the state, once what dropped scopes left behind has ended; and within a runtime.
///
/// # Examples
/// ```
/// use motet_testkit::cancel_everywhere;
/// use tokio::sync::Semaphore;
///
/// let report = cancel_everywhere(
///     async || Semaphore::new(1),
///     async |permits: &Semaphore| {
///         let _permit = permits.acquire().await.expect("it is never closed");
///         tokio::task::yield_now().await;
///     },
///     async |permits: &Semaphore, _| assert_eq!(permits.available_permits(), 1),
/// );
/// // Dropped unpolled, at the `acquire`, and at the `yield_now`.
/// assert_eq!(report.points(), 3);
/// ```
#[track_caller]
pub fn cancel_everywhere<S, T>(
    setup: impl AsyncFn() -> S,
    operation: impl AsyncFn(&S) -> T,
    invariant: impl AsyncFn(&S, Outcome<T>),
) -> CancelReport {
    CancelEverywhere::new().run(setup, operation, invariant)
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It was dropped after so many suspensions; after none, it was never polled.
    Dropped {
        /// How often it had suspended.
        suspensions: usize,
    },
    /// It came to its end, with this output.
    Completed(T),
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelReport {
    points: usize,
}

impl CancelReport {
    /// Counts the points at which the operation was dropped, the one before its first poll included.
    #[must_use]
    pub const fn points(&self) -> usize {
        self.points
    }
}
