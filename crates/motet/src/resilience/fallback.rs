use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::pipeline::{Call, Kind, Layer, Layers, Machine, OneAtATime, Outcome};
use super::{Error, EventKind};

/// Provides another result when the policies inside of it fail: a cached value, a default.
///
/// The closure gets the error, and returns a value or an error.
#[derive(Clone)]
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
    type Machine<K: Kind<Ok = T, Err = E>>
        = FallingBack<'p, F, Inner::Machine<K>, Fut>
    where
        Self: 'p;

    #[inline]
    fn start<K: Kind<Ok = T, Err = E>>(&'p self) -> FallingBack<'p, F, Inner::Machine<K>, Fut> {
        FallingBack { ask: &self.policy.0, inner: Some(self.inner.start()), other: None }
    }
}

pin_project! {
    /// The state of a [`Fallback`] in one call.
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
    K: Kind,
    M: Machine<K>,
    F: Fn(Error<K::Err>) -> Fut,
    Fut: Future<Output = Result<K::Ok, Error<K::Err>>>,
{
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, call: &mut Call<'_, K>) -> Poll<Outcome<K>> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            let failure = match ready!(inner.poll(cx, call)) {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(failure) => failure,
            };
            this.inner.set(None);
            call.tell(|| EventKind::FellBack);
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

    fn stop(self: Pin<&mut Self>, call: &mut Call<'_, K>) {
        if let Some(inner) = self.project().inner.as_pin_mut() {
            inner.stop(call);
        }
    }
}
