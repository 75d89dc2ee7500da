use std::fmt;
use std::sync::Arc;

use super::{BoxFuture, Middleware, Next, PanicError};
use crate::mutant;
use crate::sync::panic_words;
use crate::task::Name;
use crate::task::caught::Caught;

/// Returns a part that turns a panic of the inner parts into an error: an `E` with `From<PanicError>`.
///
/// The future that panicked is dropped before the answer is returned. The panic hook reports the panic as usual.
///
/// # When to use
/// Outermost, or nearly outermost, in a task that serves many requests, so that one request does not end it. A panic
/// may leave shared state inconsistent; the owner of that state must handle this.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, catch_panic};
/// use std::error::Error;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # std::panic::set_hook(Box::new(|_| {}));
/// let handler = Chain::new().with(catch_panic()).to(|n: u32| async move {
///     Ok::<_, Box<dyn Error + Send + Sync>>(100 / n)
/// });
/// assert_eq!(handler.call(0).await.unwrap_err().to_string(), "the call panicked: attempt to divide by zero");
/// assert_eq!(handler.call(5).await.unwrap(), 20);
/// # Ok(())
/// # }
/// ```
pub fn catch_panic() -> CatchPanic {
    CatchPanic(())
}

/// Returns a part that turns a panic of the inner parts into the answer that `answer` returns: for answers that are not
/// a `Result`, or errors without `From<PanicError>`. Otherwise like [`catch_panic`].
pub fn catch_panic_with<R, F: Fn(PanicError) -> R>(answer: F) -> CatchPanicWith<F> {
    CatchPanicWith(answer)
}

/// The part that [`catch_panic`] returns.
#[derive(Debug, Clone, Copy)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
pub struct CatchPanic(());

/// The part that [`catch_panic_with`] returns.
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
pub struct CatchPanicWith<F>(F);

impl<Q, T, E> Middleware<Q, Result<T, E>> for CatchPanic
where
    Q: Send + 'static,
    T: Send + 'static,
    E: From<PanicError> + Send + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, Result<T, E>>) -> BoxFuture<Result<T, E>> {
        Box::pin(async move { caught(request, next).await.unwrap_or_else(|panicked| Err(panicked.into())) })
    }

    fn name(&self) -> Name {
        Name::from("catch_panic")
    }
}

impl<Q, R, F> Middleware<Q, R> for CatchPanicWith<F>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Fn(PanicError) -> R + Send + Sync + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move { caught(request, next).await.unwrap_or_else(|panicked| self.0(panicked)) })
    }

    fn name(&self) -> Name {
        Name::from("catch_panic")
    }
}

async fn caught<Q: Send + 'static, R: Send + 'static>(request: Q, next: Next<Q, R>) -> Result<R, PanicError> {
    // A part that forwards may panic before it returns a future: the block catches this panic too.
    let inside = async move { next.run(request).await };
    if mutant!("middleware.let_panics_out") {
        return Ok(inside.await);
    }
    let outcome = Caught::new(inside).await;
    outcome.map_err(|payload| PanicError::new(panic_words(payload)))
}

impl<F> fmt::Debug for CatchPanicWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicWith").finish_non_exhaustive()
    }
}
