use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::coop;

use super::hearing::let_go;
use super::ring::{Read, Ring};
use super::slot::Call;
use super::{Emitter, Event, Lag, Missed, Subscription};
use crate::sim;

/// The stream that [`Emitter::stream`] returns.
///
/// It ends when the emitter is closed and all posted events are handled, when the scope of the emitter has ended, or
/// when the emitter is dropped.
#[must_use = "a stream does nothing unless it is read"]
pub struct Events<E> {
    read_from: Source<E>,
    /// `None` if the emitter was closed when the stream was created.
    _on: Option<Subscription>,
}

enum Source<E> {
    /// An emit waits for capacity.
    Channel(mpsc::Receiver<Arc<E>>),
    Ring {
        ring: Arc<Ring<Arc<E>>>,
        tells: bool,
    },
}

impl<E: Event> Events<E> {
    pub(super) fn new(emitter: &Emitter, lag: Lag) -> Self {
        let listener = emitter.listener("stream");
        let (room, tells) = match lag {
            Lag::Wait(room) => {
                // tokio panics above this capacity, and no memory holds as many events.
                let (sender, receiver) = mpsc::channel(room.get().min(Semaphore::MAX_PERMITS));
                // A failed send needs no report: the receiver is dropped only together with the subscription of this
                // listener.
                let hears = move |event: Arc<E>| {
                    let sender = sender.clone();
                    async move { drop(sender.send(event).await) }
                };
                let on = listener.on_async(hears).ok();
                return Self { read_from: Source::Channel(receiver), _on: on };
            }
            Lag::DropOldest(room) => (room.get(), true),
            Lag::Latest => (1, false),
        };
        let ring = Arc::new(Ring::new(room));
        let filled = Fills(Arc::clone(&ring));
        let on =
            listener.hear_event(filled, |filled| Call::Keep(Box::new(move |event| filled.put(event)))).ok();
        Self { read_from: Source::Ring { ring, tells }, _on: on }
    }

    /// Returns the next event, waiting until there is one; `None` at the end of the stream.
    ///
    /// # Cancel safety
    /// Safe: no event is lost, and the next call returns the event.
    ///
    /// # Errors
    /// [`Missed`]: events were dropped at this position of the stream. The stream continues.
    #[track_caller]
    #[allow(clippy::should_implement_trait, reason = "a stream's `next` is awaited")]
    pub fn next(&mut self) -> impl Future<Output = Option<Result<Arc<E>, Missed>>> {
        sim::at("event stream", "next", poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)))
    }
}

impl<E: Event> Stream for Events<E> {
    type Item = Result<Arc<E>, Missed>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.read_from {
            // The channel consumes coop budget itself.
            Source::Channel(channel) => channel.poll_recv(cx).map(|event| event.map(Ok)),
            Source::Ring { ring, tells } => {
                let operation = ready!(coop::poll_proceed(cx));
                loop {
                    let item = match ready!(ring.poll_read(cx)) {
                        Read::Missed(_) if !*tells => continue,
                        Read::Missed(count) => Some(Err(Missed(count))),
                        Read::Event(event) => Some(Ok(event)),
                        Read::End => None,
                    };
                    operation.made_progress();
                    return Poll::Ready(item);
                }
            }
        }
    }
}

/// The emitter's side of a ring. Its drop ends the ring, whatever caused the drop.
pub(super) struct Fills<E>(pub(super) Arc<Ring<Arc<E>>>);

impl<E> Fills<E> {
    pub(super) fn put(&self, event: &Arc<E>) {
        if let Some(oldest) = self.0.put(Arc::clone(event)) {
            // This may be the last reference to the event.
            let_go(oldest);
        }
    }
}

impl<E> Drop for Fills<E> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lag = match &self.read_from {
            Source::Channel(_) => "wait",
            Source::Ring { tells: true, .. } => "drop oldest",
            Source::Ring { tells: false, .. } => "latest",
        };
        f.debug_struct("Events").field("lag", &lag).finish_non_exhaustive()
    }
}
