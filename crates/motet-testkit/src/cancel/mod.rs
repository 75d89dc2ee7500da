//! Drops a future at every await at which it can be dropped.
//!
//! ```
//! use motet_testkit::cancel_everywhere;
//! use tokio::sync::Semaphore;
//!
//! let report = cancel_everywhere(
//!     async || Semaphore::new(1),
//!     async |permits: &Semaphore| {
//!         let _permit = permits.acquire().await.expect("it is never closed");
//!         tokio::task::yield_now().await;
//!     },
//!     async |permits: &Semaphore, _| assert_eq!(permits.available_permits(), 1),
//! );
//! // Dropped unpolled, at the `acquire`, and at the `yield_now`.
//! assert_eq!(report.points(), 3);
//! ```
//!
//! A future can be cancelled wherever it suspends. In production, an await suspends only if its value is not ready.
//! Here every operation suspends: the first poll has no coop budget, and each further poll has a budget of one
//! operation. The future is dropped after its first suspension, in the next run after its second, and so on, until it
//! completes.
//!
//! | You want to | Use |
//! |---|---|
//! | drop one future at each of its awaits | [`cancel_everywhere`] |
//! | change the limits of suspensions or of virtual time | [`CancelEverywhere`] |
//! | interleave several tasks | [`sim`](crate::sim()) |
//!
//! # Limits
//! Operations outside of tokio's coop budget (`Notify`, `Barrier`, `tokio::task::unconstrained`, channels of other
//! crates) suspend only if they have to. Tasks that the operation spawns run normally, in virtual time.

mod driver;
mod run;

pub use driver::CancelEverywhere;

/// Drops an operation at each of its suspensions, and checks an invariant after each drop, with the defaults of
/// [`CancelEverywhere`].
///
/// `setup` creates the state of one run. `operation` is dropped. `invariant` asserts what must then hold, and receives
/// how the operation ended; it may await, for example for a background task that cleans up.
///
/// # Panics
/// If the invariant, the operation or a task panics, with the number of the suspension and the last events; if an
/// `always!` does not hold; if setup, operation or invariant do not end; if the operation ends before a suspension that
/// the first run had; if tasks are alive after the invariant and the drop of the state, once the tasks of dropped
/// scopes have ended; and inside of a runtime.
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
    /// The operation was dropped after this number of suspensions; after none, it was never polled.
    Dropped {
        /// The number of suspensions.
        suspensions: usize,
    },
    /// The operation completed with this output.
    Completed(T),
}

/// The result of all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelReport {
    points: usize,
}

impl CancelReport {
    /// Returns the number of points at which the operation was dropped, the point before its first poll included.
    #[must_use]
    pub const fn points(&self) -> usize {
        self.points
    }
}
