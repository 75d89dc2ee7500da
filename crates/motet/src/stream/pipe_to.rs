use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::queue::{PollSender, SendError, Sender};
use crate::sim::Site;

pin_project! {
    /// The future of [`pipe_to`](super::StreamCombinators::pipe_to).
    #[must_use = "nothing is sent unless it is awaited"]
    #[allow(unnameable_types, reason = "users await it, and never write its type")]
    pub struct PipeTo<S: Stream> {
        #[pin]
        stream: Option<S>,
        // An item of the stream for which the queue has had no capacity yet.
        item: Option<S::Item>,
        sending: PollSender<S::Item>,
        sent: u64,
        site: Site,
    }
}

impl<S: Stream> PipeTo<S> {
    #[track_caller]
    pub(super) fn new(stream: S, sender: Sender<S::Item>) -> Self {
        Self {
            stream: Some(stream),
            item: None,
            sending: PollSender::new(sender),
            sent: 0,
            site: Site::new("stream", "pipe to a queue").around(),
        }
    }

    /// The number of items that were put into the queue.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

impl<S: Stream<Item: Send + 'static>> Future for PipeTo<S> {
    type Output = Result<u64, SendError<Option<S::Item>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<S: Stream<Item: Send + 'static>> PipeTo<S> {
    fn poll_here(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let mut this = self.project();
        loop {
            if this.item.is_some() {
                if ready!(this.sending.poll_send(cx, this.item)).is_err() {
                    this.stream.set(None);
                    return Poll::Ready(Err(SendError(this.item.take())));
                }
                *this.sent += 1;
            }
            let Some(stream) = this.stream.as_mut().as_pin_mut() else { return Poll::Ready(Ok(*this.sent)) };
            if this.sending.is_closed() {
                this.stream.set(None);
                return Poll::Ready(Err(SendError(None)));
            }
            match stream.poll_next(cx) {
                Poll::Ready(Some(item)) => *this.item = Some(item),
                Poll::Ready(None) => this.stream.set(None),
                // Ready if the queue is closed: the next iteration returns the error.
                Poll::Pending => ready!(this.sending.poll_closed(cx)),
            }
        }
    }
}

impl<S: Stream> fmt::Debug for PipeTo<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeTo")
            .field("sent", &self.sent)
            .field("holds_one", &self.item.is_some())
            .finish_non_exhaustive()
    }
}
