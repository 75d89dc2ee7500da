use std::fmt;
use std::sync::Arc;

use super::part::short;
use super::{BoxFuture, Middleware, Next};
use crate::task::Name;

/// Returns a part that calls `function` with a clone of `state`, the request and [`Next`].
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Next, with_state};
/// use std::sync::Arc;
///
/// struct Keys(Vec<&'static str>);
/// type Answer = Result<String, &'static str>;
///
/// async fn authenticate(keys: Arc<Keys>, key: &'static str, next: Next<&'static str, Answer>) -> Answer {
///     if !keys.0.contains(&key) {
///         return Err("unauthorized");
///     }
///     next.run(key).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = Arc::new(Keys(vec!["a-1"]));
/// let handler = Chain::new().with(with_state(keys, authenticate)).to(|key| async move { Ok(format!("hello, {key}")) });
/// assert_eq!(handler.call("a-1").await, Ok("hello, a-1".to_owned()));
/// assert_eq!(handler.call("b-2").await, Err("unauthorized"));
/// # Ok(())
/// # }
/// ```
pub fn with_state<S, F>(state: S, function: F) -> WithState<S, F> {
    WithState { state, function }
}

/// The part that [`with_state`] returns.
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
pub struct WithState<S, F> {
    state: S,
    function: F,
}

impl<Q: 'static, R: 'static, S, F, Fut> Middleware<Q, R> for WithState<S, F>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Q, Next<Q, R>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin((self.function)(self.state.clone(), request, next))
    }

    fn name(&self) -> Name {
        Name::from(short::<F>())
    }
}

impl<S, F> fmt::Debug for WithState<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WithState({})", short::<F>())
    }
}
