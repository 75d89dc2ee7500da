//! Copies of a request for further attempts.

use crate::resilience::pipeline::{End, Gate, Layer};
use crate::resilience::{Fallback, Hedge, Retry, Timeout};

/// Provides the request of each attempt: see [`Once`], [`Cloned`] and [`ReplayBy`].
#[diagnostic::on_unimplemented(
    message = "a request of type `{Q}` cannot be sent a second time",
    label = "this part may call the inner parts more than once, and needs the request each time",
    note = "implement `Clone` for `{Q}`, or provide a copy with `.replay_by(|request: &{Q}| -> Option<{Q}> ..)`; \
            a request for which it returns `None` is tried once"
)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub trait Replay<Q>: Send + Sync + 'static {
    /// Returns the request for the next attempt, and leaves a copy in `request` if a further attempt is possible.
    #[doc(hidden)]
    fn take(&self, request: &mut Option<Q>) -> Option<Q>;
}

/// Allows one attempt.
#[derive(Debug, Clone, Copy, Default)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct Once;

/// Clones the request for each attempt.
#[derive(Debug, Clone, Copy, Default)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct Cloned;

/// Copies the request with a closure; if the closure returns `None`, there is one attempt.
#[derive(Clone)]
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct ReplayBy<F>(pub(super) F);

impl<Q: Send + 'static> Replay<Q> for Once {
    #[inline]
    fn take(&self, request: &mut Option<Q>) -> Option<Q> {
        request.take()
    }
}

#[diagnostic::do_not_recommend]
impl<Q: Clone + Send + 'static> Replay<Q> for Cloned {
    #[inline]
    fn take(&self, request: &mut Option<Q>) -> Option<Q> {
        request.clone()
    }
}

impl<Q, F> Replay<Q> for ReplayBy<F>
where
    Q: Send + 'static,
    F: Fn(&Q) -> Option<Q> + Send + Sync + 'static,
{
    fn take(&self, request: &mut Option<Q>) -> Option<Q> {
        let again = request.as_ref().and_then(&self.0);
        if again.is_some() { again } else { request.take() }
    }
}

/// Determines from the policies whether the inner parts may be called more than once.
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub trait Attempts {
    /// [`Once`] or [`Cloned`].
    type Replay;
}

impl Attempts for End {
    type Replay = Once;
}

impl<Inner> Attempts for Layer<Retry, Inner> {
    type Replay = Cloned;
}

impl<Inner> Attempts for Layer<Hedge, Inner> {
    type Replay = Cloned;
}

impl<Inner: Attempts> Attempts for Layer<Timeout, Inner> {
    type Replay = Inner::Replay;
}

impl<F, Inner: Attempts> Attempts for Layer<Fallback<F>, Inner> {
    type Replay = Inner::Replay;
}

impl<G: Gate, Inner: Attempts> Attempts for Layer<G, Inner> {
    type Replay = Inner::Replay;
}

opaque!("ReplayBy": <F> std::fmt::Debug for ReplayBy<F>);
