//! A sender for futures that are written by hand.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::Sender;
use super::line::{Closed, Turn};

/// A sender with its position in line.
pub(crate) struct PollSender<T> {
    sender: Sender<T>,
    turn: Turn,
    /// Created at the first wait.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T> PollSender<T> {
    pub(crate) fn new(sender: Sender<T>) -> Self {
        Self { sender, turn: Turn::default(), closed: None }
    }

    /// Sends the item. It stays in `item` until it is in the queue, and if the queue is closed.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, item: &mut Option<T>) -> Poll<Result<(), ()>> {
        self.turn.poll_send(&self.sender.core, cx, item).map_err(|Closed| ())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<T: Send + 'static> PollSender<T> {
    /// Waits until the queue is closed.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closed = self.closed.get_or_insert_with(|| {
            let sender = self.sender.clone();
            Box::pin(async move { sender.closed().await })
        });
        closed.as_mut().poll(cx)
    }
}

impl<T> Drop for PollSender<T> {
    fn drop(&mut self) {
        self.turn.leave(&self.sender.core);
    }
}
