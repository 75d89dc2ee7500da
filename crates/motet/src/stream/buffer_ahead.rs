use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

pin_project! {
    /// The stream of [`buffer_ahead`](super::StreamCombinators::buffer_ahead).
    #[must_use = "a stream does nothing unless it is read"]
    pub struct BufferAhead<S: Stream> {
        #[pin]
        stream: Option<S>,
        ready: VecDeque<S::Item>,
        ahead: usize,
    }
}

impl<S: Stream> BufferAhead<S> {
    pub(super) fn new(stream: S, ahead: usize) -> Self {
        Self { stream: Some(stream), ready: VecDeque::new(), ahead }
    }
}

impl<S: Stream> Stream for BufferAhead<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        // The reader takes one of them below.
        while this.ready.len() < (*this.ahead).max(1)
            && let Some(stream) = this.stream.as_mut().as_pin_mut()
        {
            match stream.poll_next(cx) {
                Poll::Ready(Some(item)) => this.ready.push_back(item),
                Poll::Ready(None) => this.stream.set(None),
                Poll::Pending => break,
            }
        }
        match this.ready.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if this.stream.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = self.ready.len();
        let (least, most) = self.stream.as_ref().map_or((0, Some(0)), Stream::size_hint);
        (least.saturating_add(held), most.and_then(|most| most.checked_add(held)))
    }
}

impl<S: Stream> FusedStream for BufferAhead<S> {
    fn is_terminated(&self) -> bool {
        self.stream.is_none() && self.ready.is_empty()
    }
}

impl<S: Stream> fmt::Debug for BufferAhead<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferAhead")
            .field("ahead", &self.ahead)
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}
