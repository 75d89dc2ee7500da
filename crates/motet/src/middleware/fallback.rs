use std::fmt;
use std::sync::Arc;

use super::part::short;
use super::{BoxFuture, Middleware, Next};
use crate::task::Name;

/// Asks for another answer when what is inside fails: a cached value, a default.
///
/// `answer` is given the error, and gives a value, or an error. So it can be chosen which errors are answered.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, fallback};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cached = fallback(|status: u16| async move { if status == 404 { Err(status) } else { Ok("cached") } });
/// let handler = Chain::new().with(cached).to(|status: u16| async move { Err(status) });
/// assert_eq!(handler.call(503).await, Ok("cached"));
/// assert_eq!(handler.call(404).await, Err(404));
/// # });
/// ```
pub fn fallback<E, F, Fut>(answer: F) -> Fallback<F>
where
    F: Fn(E) -> Fut,
{
    Fallback(answer)
}

/// A part that answers when all inside of it has failed: see [`fallback`].
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
pub struct Fallback<F>(F);

impl<Q, T, E, F, Fut> Middleware<Q, Result<T, E>> for Fallback<F>
where
    Q: Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    F: Fn(E) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, Result<T, E>>) -> BoxFuture<Result<T, E>> {
        let answer = next.run(request);
        Box::pin(async move {
            match answer.await {
                Ok(value) => Ok(value),
                Err(error) => self.0(error).await,
            }
        })
    }

    fn name(&self) -> Name {
        Name::from("fallback")
    }
}

impl<F> fmt::Debug for Fallback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fallback({})", short::<F>())
    }
}
