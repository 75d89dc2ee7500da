use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::middleware::{BoxFuture, Middleware, Next};
use crate::mutant;
use crate::task::Name;
use crate::task::caught::Caught;
use crate::task::core::panic_words;

/// Returns a part that calls `listener` when a call ends, with the answer and the duration.
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
/// use motet::middleware::{Chain, End, Ended, watch};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let report = |ended: &Ended<'_, Result<u32, String>>| match ended.how {
///     End::Answered(Ok(_)) => {}
///     End::Answered(Err(error)) => println!("failed after {:?}: {error}", ended.took),
///     End::Dropped | End::Panicked => println!("no answer after {:?}", ended.took),
/// };
/// let handler = Chain::new().with(watch(report)).to(|n: u32| async move { Ok(n) });
/// assert_eq!(handler.call(1).await, Ok(1));
/// # Ok(())
/// # }
/// ```
pub fn watch<R, F: Fn(&Ended<'_, R>)>(listener: F) -> Watch<F> {
    Watch(listener)
}

/// The part that [`watch`] returns.
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
pub struct Watch<F>(F);

/// The end of a call: how it ended and how long it took.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended<'a, R> {
    /// The duration of the call, counted from its first poll.
    pub took: Duration,
    /// How the call ended.
    pub how: End<'a, R>,
}

/// How a call ended: see [`Ended`].
#[derive(Debug)]
pub enum End<'a, R> {
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
    F: Fn(&Ended<'_, R>) + Send + Sync + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move { watched(request, next, |ended: &Ended<'_, R>| self.0(ended)).await })
    }

    fn name(&self) -> Name {
        Name::from("watch")
    }
}

/// Calls the inner parts, and reports once how the call ended.
pub(super) async fn watched<Q, R, F>(request: Q, next: Next<Q, R>, tell: F) -> R
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Fn(&Ended<'_, R>),
{
    let watched = Watched { begun: Instant::now(), tell: Some(tell), answer: PhantomData };
    match Caught::new(async move { next.run(request).await }).await {
        Ok(answer) => {
            watched.end(End::Answered(&answer));
            answer
        }
        Err(payload) => {
            watched.end(End::Panicked);
            resume_unwind(payload)
        }
    }
}

/// Reports a dropped call when it is dropped itself, unless the end of the call was reported before.
struct Watched<R, F: Fn(&Ended<'_, R>)> {
    begun: Instant,
    tell: Option<F>,
    answer: PhantomData<fn(&R)>,
}

impl<R, F: Fn(&Ended<'_, R>)> Watched<R, F> {
    fn end(mut self, how: End<'_, R>) {
        self.tell(how);
    }

    fn tell(&mut self, how: End<'_, R>) {
        let Some(tell) = self.tell.take() else { return };
        let ended = Ended { took: self.begun.elapsed(), how };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| tell(&ended))) {
            let panic = panic_words(payload);
            crate::log::error!(panic, "the listener of a `watch` panicked");
        }
    }
}

impl<R, F: Fn(&Ended<'_, R>)> Drop for Watched<R, F> {
    fn drop(&mut self) {
        if !mutant!("middleware.forget_dropped") {
            self.tell(End::Dropped);
        }
    }
}

impl<F> fmt::Debug for Watch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
