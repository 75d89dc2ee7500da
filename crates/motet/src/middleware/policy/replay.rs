//! How a request is had again, for another attempt.

use crate::resilience::pipeline::{End, Gate, Layer};
use crate::resilience::{Fallback, Hedge, Retry, Timeout};

/// Gives a request to each attempt: see [`Once`], [`Cloned`] and [`ReplayBy`].
#[diagnostic::on_unimplemented(
    message = "a request of type `{Q}` cannot be made a second time",
    label = "this may run what is inside more than once, and needs the request each time",
    note = "implement `Clone` for `{Q}`, or say how to have it again: `.replay_by(|request: &{Q}| -> Option<{Q}> ..)`; \
            what gives `None` is tried once"
)]
pub trait Replay<Q>: Send + Sync + 'static {
    /// Gives the request for the next attempt, and leaves one behind for the attempt after it, if there may be any.
    #[doc(hidden)]
    fn take(&self, request: &mut Option<Q>) -> Option<Q>;
}

/// There is one attempt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Once;

/// Each attempt has a clone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cloned;

/// Each attempt has what a closure makes of the request; if that is nothing, there is one attempt.
#[derive(Clone)]
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

/// Says of policies how often they may run what is inside.
pub trait Attempts {
    /// [`Once`], or [`Cloned`].
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
