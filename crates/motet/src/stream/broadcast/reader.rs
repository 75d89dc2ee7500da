use std::fmt;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;

use super::hub::{Hub, Read};
use crate::event::LagError;
use crate::task::{Reason, ReasonKind};

/// A reader of a stream that has several: see [`broadcast`](crate::stream::StreamCombinators::broadcast).
///
/// A clone is a further reader. It receives the items that this reader has not read yet, and all later items.
///
/// # Drop
/// The other readers continue, and the source does not wait for this reader any more. With the last reader, the source is
/// dropped.
///
/// # Panics
/// If the source panics: the first reader that has read all items rethrows the panic when it is polled, and the other readers
/// panic with its message.
#[must_use = "the source may wait for a reader that does not read"]
pub struct Broadcast<T> {
    hub: Arc<Hub<T>>,
    reader: usize,
}

impl<T> Broadcast<T> {
    pub(super) fn new(hub: Arc<Hub<T>>, reader: usize) -> Self {
        Self { hub, reader }
    }

    /// Returns the reason of the cancellation if the stream ended before its source, because its scope was cancelled;
    /// `None` while there are items to read.
    #[must_use]
    pub fn cut_off(&self) -> Option<Reason> {
        let reason = || self.hub.scope.reason().unwrap_or_else(|| Reason::of(ReasonKind::Shutdown));
        self.hub.is_cut_off(self.reader).then(reason)
    }
}

impl<T> Stream for Broadcast<T> {
    type Item = Result<Arc<T>, LagError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let operation = ready!(coop::poll_proceed(cx));
        let read = ready!(self.hub.poll_read(self.reader, cx));
        operation.made_progress();
        match read {
            Read::Item(item) => Poll::Ready(Some(item)),
            Read::End => Poll::Ready(None),
            Read::Panicked(panicked) => panicked.rethrow(),
            Read::Words(words) => resume_unwind(Box::new(words)),
        }
    }
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Self { hub: Arc::clone(&self.hub), reader: self.hub.join(self.reader) }
    }
}

impl<T> Drop for Broadcast<T> {
    fn drop(&mut self) {
        self.hub.leave(self.reader);
    }
}

impl<T> fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("lag", &self.hub.lag).finish_non_exhaustive()
    }
}
