use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::TaskHook;

/// Adds a future to the current simulation as a task, for tasks that are started without a scope.
///
/// Outside of a simulation, and without the feature `sim`, it only polls the future.
///
/// # Examples
/// ```
/// use motet::sim::hooked;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let answer = tokio::spawn(hooked("answer", async { 42 }));
/// assert_eq!(answer.await.unwrap(), 42);
/// # }
/// ```
///
/// # Cancel safety
/// As with the future itself.
#[track_caller]
pub fn hooked<F: Future>(name: &str, future: F) -> Hooked<F> {
    Hooked { future, hook: TaskHook::new(name, Location::caller(), PollKind::Work) }
}

pin_project! {
    /// The future of [`hooked`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Hooked<F> {
        #[pin]
        future: F,
        hook: TaskHook,
    }
}

impl<F: Future> Future for Hooked<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future;
        this.hook.poll(cx, |cx| future.poll(cx))
    }
}

impl<F> fmt::Debug for Hooked<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked").field("hook", &self.hook).finish_non_exhaustive()
    }
}

/// The meaning of the polls of a task for a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollKind {
    /// Work that must end. Its polls are progress, and a run in which no work can make progress is a deadlock.
    Work,
    /// A service that runs until it is stopped, such as a ticker. Its polls are no progress, so that it cannot hide a
    /// deadlock.
    Service,
}
