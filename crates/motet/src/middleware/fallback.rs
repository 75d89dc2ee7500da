use std::fmt;
use std::sync::Arc;

use super::part::short;
use super::{BoxFuture, Middleware, Next};
use crate::task::Name;

/// Returns a part that replaces an error of the inner parts by another answer, for example a cached value or a default.
///
/// `answer` receives the error, and returns a value or an error, so that it can select the errors that it replaces.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, fallback};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cached = fallback(|status: u16| async move { if status == 404 { Err(status) } else { Ok("cached") } });
/// let handler = Chain::new().with(cached).to(|status: u16| async move { Err(status) });
/// assert_eq!(handler.call(503).await, Ok("cached"));
/// assert_eq!(handler.call(404).await, Err(404));
/// # Ok(())
/// # }
/// ```
pub fn fallback<E, F, Fut>(answer: F) -> Fallback<F>
where
    F: Fn(E) -> Fut,
{
    Fallback(answer)
}

/// The part that [`fallback`] returns.
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
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
