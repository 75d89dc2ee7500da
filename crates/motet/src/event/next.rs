use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use super::events::RingWriter;
use super::ring::{Ring, RingRead};
use super::slot::ListenerFn;
use super::{Emitter, EmitterClosedError, Event, Subscription};
use crate::sim::Site;

/// The future of [`Emitter::next`].
pub(super) struct Next<E> {
    ring: Arc<Ring<Arc<E>>>,
    /// `None` if the emitter was closed when the future was created.
    _on: Option<Subscription>,
    site: Site,
}

impl<E: Event> Next<E> {
    pub(super) fn new(emitter: &Emitter, site: Site) -> Self {
        let ring = Arc::new(Ring::new(1));
        let fills = RingWriter(Arc::clone(&ring));
        let listener = emitter.listener("next").once();
        let on = listener
            .listen_to_event(fills, |fills| ListenerFn::Keep(Box::new(move |event| fills.put(event))))
            .ok();
        Self { ring, _on: on, site }
    }
}

impl<E: Event> Future for Next<E> {
    type Output = Result<Arc<E>, EmitterClosedError<()>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<E: Event> Next<E> {
    fn poll_here(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let operation = ready!(coop::poll_proceed(cx));
        let read = ready!(self.ring.poll_read(cx));
        operation.made_progress();
        Poll::Ready(match read {
            RingRead::Event(event) => Ok(event),
            RingRead::Missed(_) | RingRead::End => Err(EmitterClosedError(())),
        })
    }
}

impl<E> fmt::Debug for Next<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}
