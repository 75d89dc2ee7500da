use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::coop;

use super::ring::{Ring, RingRead};
use super::slot::ListenerFn;
use super::{Emitter, Event, LagError, Subscription};
use crate::sim;
use crate::sync::quietly_drop;

/// The policy of a stream that is full when an event arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// The emit waits until the stream has capacity. No event is missed, unless an emit waits for longer than the
    /// timeout of a listener: then its [`Emitted`](super::Emitted) reports the timeout.
    Wait(NonZeroUsize),
    /// The stream drops its oldest event, and reports at that position how many were missed.
    DropOldest(NonZeroUsize),
    /// The stream keeps only the latest event, and does not report the events that it replaced.
    Latest,
}

/// The stream that [`Emitter::stream`] returns.
///
/// It ends when the emitter is closed and all posted events are handled, when the scope of the emitter has ended, or
/// when the emitter is dropped.
#[must_use = "a stream does nothing unless it is read"]
pub struct Events<E> {
    read_from: EventsSource<E>,
    /// `None` if the emitter was closed when the stream was created.
    _on: Option<Subscription>,
}

enum EventsSource<E> {
    /// An emit waits for capacity.
    Channel(mpsc::Receiver<Arc<E>>),
    Ring {
        ring: Arc<Ring<Arc<E>>>,
        reports_lag: bool,
    },
}

impl<E: Event> Events<E> {
    pub(super) fn new(emitter: &Emitter, lag: Lag) -> Self {
        let listener = emitter.listener("stream");
        let (capacity, reports_lag) = match lag {
            Lag::Wait(capacity) => {
                // tokio panics above this capacity, and no memory holds as many events.
                let (sender, receiver) = mpsc::channel(capacity.get().min(Semaphore::MAX_PERMITS));
                // A failed send needs no report: the receiver is dropped only together with the subscription of this
                // listener.
                let target = move |event: Arc<E>| {
                    let sender = sender.clone();
                    async move { drop(sender.send(event).await) }
                };
                let on = listener.on_async(target).ok();
                return Self { read_from: EventsSource::Channel(receiver), _on: on };
            }
            Lag::DropOldest(capacity) => (capacity.get(), true),
            Lag::Latest => (1, false),
        };
        let ring = Arc::new(Ring::new(capacity));
        let filled = RingWriter(Arc::clone(&ring));
        let on = listener
            .listen_to_event(filled, |filled| ListenerFn::Keep(Box::new(move |event| filled.put(event))))
            .ok();
        Self { read_from: EventsSource::Ring { ring, reports_lag }, _on: on }
    }

    /// Returns the next event, waiting until there is one; `None` at the end of the stream.
    ///
    /// # Cancel safety
    /// Safe: no event is lost, and the next call returns the event.
    ///
    /// # Errors
    /// [`LagError`]: events were dropped at this position of the stream. The stream continues.
    #[track_caller]
    #[allow(clippy::should_implement_trait, reason = "a stream's `next` is awaited")]
    pub fn next(&mut self) -> impl Future<Output = Option<Result<Arc<E>, LagError>>> {
        sim::at("event stream", "next", poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)))
    }
}

impl<E: Event> Stream for Events<E> {
    type Item = Result<Arc<E>, LagError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.read_from {
            // The channel consumes coop budget itself.
            EventsSource::Channel(channel) => channel.poll_recv(cx).map(|event| event.map(Ok)),
            EventsSource::Ring { ring, reports_lag } => {
                let operation = ready!(coop::poll_proceed(cx));
                loop {
                    let item = match ready!(ring.poll_read(cx)) {
                        RingRead::Missed(_) if !*reports_lag => continue,
                        RingRead::Missed(count) => Some(Err(LagError(count))),
                        RingRead::Event(event) => Some(Ok(event)),
                        RingRead::End => None,
                    };
                    operation.made_progress();
                    return Poll::Ready(item);
                }
            }
        }
    }
}

/// The emitter's side of a ring. Its drop ends the ring, whatever caused the drop.
pub(super) struct RingWriter<E>(pub(super) Arc<Ring<Arc<E>>>);

impl<E> RingWriter<E> {
    pub(super) fn put(&self, event: &Arc<E>) {
        if let Some(oldest) = self.0.put(Arc::clone(event)) {
            // This may be the last reference to the event.
            quietly_drop(oldest);
        }
    }
}

impl<E> Drop for RingWriter<E> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lag = match &self.read_from {
            EventsSource::Channel(_) => "wait",
            EventsSource::Ring { reports_lag: true, .. } => "drop oldest",
            EventsSource::Ring { reports_lag: false, .. } => "latest",
        };
        f.debug_struct("Events").field("lag", &lag).finish_non_exhaustive()
    }
}
