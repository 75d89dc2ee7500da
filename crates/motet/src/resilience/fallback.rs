use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::pipeline::{CallContext, CallTypes, Layer, Layers, Machine, OneAtATime, PolicyOutcome};
use super::{Error, PolicyEventKind};

/// Provides another result when the policies inside of it fail: a cached value, a default.
///
/// The closure gets the error, and returns a value or an error.
#[derive(Clone)]
#[allow(unnameable_types, reason = "`Pipeline::fallback` creates it")]
pub struct Fallback<F>(pub(super) F);

impl<F> fmt::Debug for Fallback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").finish_non_exhaustive()
    }
}

impl<F> OneAtATime for Fallback<F> {}

impl<'p, T, E, Inner, F, Fut> Layers<'p, T, E> for Layer<Fallback<F>, Inner>
where
    Inner: Layers<'p, T, E>,
    F: Fn(Error<E>) -> Fut + 'p,
    Fut: Future<Output = Result<T, Error<E>>>,
{
    type Machine<K: CallTypes<Ok = T, Err = E>>
        = FallingBack<'p, F, Inner::Machine<K>, Fut>
    where
        Self: 'p;

    #[inline]
    fn start<K: CallTypes<Ok = T, Err = E>>(&'p self) -> FallingBack<'p, F, Inner::Machine<K>, Fut> {
        FallingBack { ask: &self.policy.0, inner: Some(self.inner.start()), other: None }
    }
}

pin_project! {
    /// The state of a [`Fallback`] in one call.
    #[allow(unnameable_types, reason = "it is the state of a call, and users never see it")]
    pub struct FallingBack<'p, F, M, Fut> {
        ask: &'p F,
        #[pin]
        inner: Option<M>,
        #[pin]
        other: Option<Fut>,
    }
}

impl<'p, K, M, F, Fut> Machine<K> for FallingBack<'p, F, M, Fut>
where
    K: CallTypes,
    M: Machine<K>,
    F: Fn(Error<K::Err>) -> Fut,
    Fut: Future<Output = Result<K::Ok, Error<K::Err>>>,
{
    #[inline]
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            let failure = match ready!(inner.poll(cx, call)) {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(failure) => failure,
            };
            this.inner.set(None);
            call.notify(|| PolicyEventKind::FellBack);
            let error = call.error(failure);
            this.other.set(Some((this.ask)(error)));
        }
        let Some(other) = this.other.as_mut().as_pin_mut() else {
            unreachable!("a policy is not polled after it has returned its outcome")
        };
        let limit = call.session.limit;
        let answer = ready!(limit.around(|| other.poll(cx)));
        this.other.set(None);
        Poll::Ready(answer.map_err(|error| error.failure))
    }

    fn stop(self: Pin<&mut Self>, call: &mut CallContext<'_, K>) {
        if let Some(inner) = self.project().inner.as_pin_mut() {
            inner.stop(call);
        }
    }
}
