use std::fmt;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::middleware::{BoxFuture, Middleware, Next};
use crate::mutant;
use crate::sync::catch;
use crate::task::Name;
use crate::task::caught::Caught;

/// Returns a part that calls `listener` when a call ends, with its end and its duration, counted from its first poll.
///
/// The listener is also called for calls that were dropped or that panicked. It should be quick: it runs where the call
/// ends, before the answer is returned. A panic of the listener is logged, and does not affect the call.
///
/// # When to use
/// For metrics of your own. [`metrics()`](super::metrics()) keeps the usual counts, [`trace()`](super::trace()) opens a
/// span.
///
/// # Examples
/// ```
/// use motet::middleware::{CallEnd, Chain, watch};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let report = |end: CallEnd<'_, Result<u32, String>>, took: Duration| match end {
///     CallEnd::Answered(Ok(_)) => {}
///     CallEnd::Answered(Err(error)) => println!("failed after {took:?}: {error}"),
///     CallEnd::Dropped | CallEnd::Panicked => println!("no answer after {took:?}"),
/// };
/// let handler = Chain::new().with(watch(report)).to(|n: u32| async move { Ok(n) });
/// assert_eq!(handler.call(1).await, Ok(1));
/// # Ok(())
/// # }
/// ```
pub fn watch<R, F: Fn(CallEnd<'_, R>, Duration)>(listener: F) -> Watch<F> {
    Watch(listener)
}

/// The part that [`watch`] returns.
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
pub struct Watch<F>(F);

/// How a call ended: see [`watch`].
#[derive(Debug)]
pub enum CallEnd<'a, R> {
    /// The call returned this answer.
    Answered(&'a R),
    /// The future of the call was dropped.
    Dropped,
    /// The call panicked; the panic propagates.
    Panicked,
}

impl<Q, R, F> Middleware<Q, R> for Watch<F>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Fn(CallEnd<'_, R>, Duration) + Send + Sync + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move { watched(request, next, |end: CallEnd<'_, R>, took| self.0(end, took)).await })
    }

    fn name(&self) -> Name {
        Name::from("watch")
    }
}

/// Calls the inner parts, and reports once how the call ended.
pub(super) async fn watched<Q, R, F>(request: Q, next: Next<Q, R>, report: F) -> R
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Fn(CallEnd<'_, R>, Duration),
{
    let watched = WatchedCall { begun: Instant::now(), report: Some(report), answer: PhantomData };
    match Caught::new(async move { next.run(request).await }).await {
        Ok(answer) => {
            watched.end(CallEnd::Answered(&answer));
            answer
        }
        Err(payload) => {
            watched.end(CallEnd::Panicked);
            resume_unwind(payload)
        }
    }
}

/// Reports a dropped call when it is dropped itself, unless the end of the call was reported before.
struct WatchedCall<R, F: Fn(CallEnd<'_, R>, Duration)> {
    begun: Instant,
    report: Option<F>,
    answer: PhantomData<fn(&R)>,
}

impl<R, F: Fn(CallEnd<'_, R>, Duration)> WatchedCall<R, F> {
    fn end(mut self, end: CallEnd<'_, R>) {
        self.report(end);
    }

    fn report(&mut self, end: CallEnd<'_, R>) {
        let Some(report) = self.report.take() else { return };
        let took = self.begun.elapsed();
        if let Err(panic) = catch(|| report(end, took)) {
            crate::log::error!(panic, "the listener of a `watch` panicked");
        }
    }
}

impl<R, F: Fn(CallEnd<'_, R>, Duration)> Drop for WatchedCall<R, F> {
    fn drop(&mut self) {
        if mutant!("middleware.forget_dropped") {
            return;
        }
        self.report(CallEnd::Dropped);
    }
}

impl<F> fmt::Debug for Watch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
