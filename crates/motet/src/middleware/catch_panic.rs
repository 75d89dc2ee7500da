use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::{BoxFuture, Middleware, Next};
use crate::mutant;
use crate::task::Name;
use crate::task::caught::Caught;
use crate::task::core::panic_words;

/// Answers with an error when something inside panics: an `E` that has `From<Panicked>`.
///
/// What panicked is dropped before the answer is given. The panic is logged where the panic hook logs it.
///
/// # When to use
/// Outermost, or nearly so, where one request must not end the task that serves many. What a panic left behind half done
/// in shared state is for whoever shares it to see to.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, catch_panic};
/// use std::error::Error;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # std::panic::set_hook(Box::new(|_| {}));
/// let handler = Chain::new().with(catch_panic()).to(|n: u32| async move {
///     Ok::<_, Box<dyn Error + Send + Sync>>(100 / n)
/// });
/// assert_eq!(handler.call(0).await.unwrap_err().to_string(), "a panic: attempt to divide by zero");
/// assert_eq!(handler.call(5).await.unwrap(), 20);
/// # });
/// ```
pub fn catch_panic() -> CatchPanic {
    CatchPanic(())
}

/// Answers as `answer` says when something inside panics: for answers that are no `Result`, or errors without
/// `From<Panicked>`. Otherwise as [`catch_panic`].
pub fn catch_panic_with<R, F: Fn(Panicked) -> R>(answer: F) -> CatchPanicWith<F> {
    CatchPanicWith(answer)
}

/// A part that lets no panic out: see [`catch_panic`].
#[derive(Debug, Clone, Copy)]
#[must_use = "a part does nothing until a chain has it"]
pub struct CatchPanic(());

/// A part that lets no panic out: see [`catch_panic_with`].
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
pub struct CatchPanicWith<F>(F);

impl<Q, T, E> Middleware<Q, Result<T, E>> for CatchPanic
where
    Q: Send + 'static,
    T: Send + 'static,
    E: From<Panicked> + Send + 'static,
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
    F: Fn(Panicked) -> R + Send + Sync + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move { caught(request, next).await.unwrap_or_else(|panicked| self.0(panicked)) })
    }

    fn name(&self) -> Name {
        Name::from("catch_panic")
    }
}

async fn caught<Q: Send + 'static, R: Send + 'static>(request: Q, next: Next<Q, R>) -> Result<R, Panicked> {
    // A part that forwards may panic before there is a future: that is caught with the rest.
    let inside = async move { next.run(request).await };
    if mutant!("middleware.let_panics_out") {
        return Ok(inside.await);
    }
    let outcome = Caught::new(inside).await;
    outcome.map_err(|payload| Panicked { message: panic_words(payload) })
}

/// Something inside of a [`catch_panic`] panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    message: String,
}

impl Panicked {
    /// Gives the message of the panic.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a panic: {}", self.message)
    }
}

impl Error for Panicked {}

impl<F> fmt::Debug for CatchPanicWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanicWith").finish_non_exhaustive()
    }
}
