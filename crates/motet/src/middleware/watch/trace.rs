use std::fmt;
use std::sync::Arc;

use tracing::{Instrument, Span};

use super::watch::{CallEnd, watched};
use crate::middleware::{BoxFuture, Middleware, Next};
use crate::task::Name;

/// Returns a part that runs the inner parts in a span of [`tracing`], which `span` creates from the request. When the
/// call ends, the part logs in this span how it ended and how long it took, at level `DEBUG`.
///
/// A span without a subscriber costs its creation, and no allocation.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, trace};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let span = |id: &u32| tracing::info_span!("user", id);
/// let handler = Chain::new().with(trace(span)).to(|id: u32| async move { format!("user {id}") });
/// assert_eq!(handler.call(7).await, "user 7");
/// # Ok(())
/// # }
/// ```
pub fn trace<Q, F: Fn(&Q) -> Span>(span: F) -> Trace<F> {
    Trace(span)
}

/// The part that [`trace`] returns.
#[derive(Clone)]
#[must_use = "a part does nothing until a chain has it"]
#[allow(unnameable_types, reason = "users pass it to `Chain::with`")]
pub struct Trace<F>(F);

impl<Q, R, F> Middleware<Q, R> for Trace<F>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Fn(&Q) -> Span + Send + Sync + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        let span = self.0(&request);
        if span.is_disabled() {
            return next.run(request);
        }
        let ended_in = span.clone();
        let call = watched(request, next, move |end: CallEnd<'_, R>, took| {
            let how = match end {
                CallEnd::Answered(_) => "the call returned",
                CallEnd::Dropped => "the call was dropped",
                CallEnd::Panicked => "the call panicked",
            };
            ended_in.in_scope(|| crate::log::debug!(?took, "{how}"));
        });
        Box::pin(call.instrument(span))
    }

    fn name(&self) -> Name {
        Name::from("trace")
    }
}

impl<F> fmt::Debug for Trace<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}
