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

/// Tells `listener` how each call ended, and how long it took, whatever answers are.
///
/// It is told of calls that were dropped and that panicked too. It should be quick: it runs where the call ends, before
/// the answer is given. A panic of its own is logged, and harms no call.
///
/// # When to use
/// For numbers of your own kind. [`metrics()`](super::metrics()) keeps the usual ones, [`trace()`](super::trace()) opens
/// a span.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, End, Ended, watch};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let report = |ended: &Ended<'_, Result<u32, String>>| match ended.how {
///     End::Answered(Ok(_)) => {}
///     End::Answered(Err(error)) => println!("failed after {:?}: {error}", ended.took),
///     End::Dropped | End::Panicked => println!("gone after {:?}", ended.took),
/// };
/// let handler = Chain::new().with(watch(report)).to(|n: u32| async move { Ok(n) });
/// assert_eq!(handler.call(1).await, Ok(1));
/// # });
/// ```
pub fn watch<R, F: Fn(&Ended<'_, R>)>(listener: F) -> Watch<F> {
    Watch(listener)
}

/// A part that tells a listener how calls end: see [`watch`].
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
pub struct Watch<F>(F);

/// How a call ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended<'a, R> {
    /// From its first poll on.
    pub took: Duration,
    /// How.
    pub how: End<'a, R>,
}

/// How a call ended: see [`Ended`].
#[derive(Debug)]
pub enum End<'a, R> {
    /// With an answer.
    Answered(&'a R),
    /// Its future was dropped.
    Dropped,
    /// It panicked; the panic goes on.
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

/// Runs what is inside, and tells once how that ended.
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

/// Tells at its drop, if it was not told before.
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
            crate::log::error!(panic, "a listener panicked when it was told how a call ended");
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
