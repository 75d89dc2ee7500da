use std::fmt;
use std::sync::Arc;

use super::handler::BuiltChain;
use super::part::PartRun;
use super::{BoxFuture, Context};
use crate::mutant;
use crate::sim::Site;

/// The inner parts of a call and its handler, as a part sees them.
///
/// `Next` is owned, so that a plain `async fn` can take it and its future is `Send`. A part that does not
/// [run](Self::run) it answers the request by itself. A clone runs the same inner parts again, for example for a retry.
pub struct Next<Q: 'static, R: 'static> {
    pub(super) built: Arc<BuiltChain<Q, R>>,
    pub(super) at: usize,
    pub(super) context: Context,
}

impl<Q: 'static, R: 'static> Next<Q, R> {
    /// Calls the inner parts, and returns their answer.
    ///
    /// # Cancel safety
    /// As cancel-safe as the inner parts and the handler: dropping the future drops their futures at their current
    /// await.
    ///
    /// # Panics
    /// Propagates a panic of an inner part or of the handler.
    #[must_use = "the inner parts are called only when the future is awaited"]
    #[track_caller]
    pub fn run(self, request: Q) -> BoxFuture<R> {
        let site = Site::new("middleware", "run").around();
        site.of_boxed(self.begin(request))
    }

    fn begin(mut self, request: Q) -> BoxFuture<R> {
        let Some(part) = self.built.parts.get(self.at) else {
            return self.built.endpoint.call(request, self.context);
        };
        self.at += 1;
        if mutant!("middleware.skip_part") {
            self.at += 1;
        }
        match &part.run {
            // A part without state needs no reference count of its own: the whole call costs one count.
            PartRun::Stateless(part) => {
                let part = *part;
                part(request, self)
            }
            PartRun::Shared(part) => Arc::clone(part).handle(request, self),
        }
    }

    /// Adds a value to the context of the inner parts.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.context = self.context.with(value);
        self
    }
}

impl<Q: 'static, R: 'static> Next<Q, R> {
    /// The values that outer parts have added.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl<Q: 'static, R: 'static> Clone for Next<Q, R> {
    fn clone(&self) -> Self {
        let mut context = self.context.clone();
        if mutant!("middleware.clone_without_context") {
            context = Context::new();
        }
        Self { built: Arc::clone(&self.built), at: self.at, context }
    }
}

impl<Q: 'static, R: 'static> fmt::Debug for Next<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner: Vec<_> = self.built.description.parts().skip(self.at).map(|(name, _)| name).collect();
        f.debug_tuple("Next").field(&inner).finish()
    }
}
