//! Dead letters: items that were tried too often, on their way to another queue.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};

use super::Sender;
use super::atomics::yield_now;
use super::core::QueueCore;
use super::send_waiter::{SendWaiter, Sent};
use crate::mutant;
use crate::sync::catch;

/// An item that was handed out as often as the queue allows, without being settled as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<T> {
    /// The item.
    pub item: T,
    /// The number of times the item was handed out.
    pub attempts: u32,
}

/// The sink of dead letters, without the type of its queue: the type would be infinite otherwise.
pub(super) trait DeadLetterSink<T>: Send + Sync {
    /// The number of attempts after which an item is a dead letter.
    fn after(&self) -> u32;

    /// Sets the queue that the dead letters come from.
    fn serve(&self, owner: Weak<QueueCore<T>>);

    /// Sends a dead letter, now or when there is a free slot. It never waits.
    fn put(self: Arc<Self>, letter: DeadLetter<T>);

    /// The number of dead letters that wait for a free slot.
    fn waiting(&self) -> usize;
}

/// Dead letters on their way to their queue. This struct waits in the line of that queue like a sender. Its waker sends the
/// next dead letter, on the thread that freed the slot, so no task is needed.
pub(super) struct DeadLetterQueue<T> {
    after: NonZeroU32,
    sink: Sender<DeadLetter<T>>,
    owner: OnceLock<Weak<QueueCore<T>>>,
    outbox: Mutex<Outbox<T>>,
}

struct Outbox<T> {
    letters: VecDeque<DeadLetter<T>>,
    /// The position in the line of the other queue; `None` while a thread is sending.
    waiter: Option<SendWaiter>,
    /// Set when a dead letter or a wake has arrived since the sending thread last checked.
    again: bool,
}

impl<T> DeadLetterQueue<T> {
    pub(super) fn new(after: NonZeroU32, sink: Sender<DeadLetter<T>>) -> Self {
        let outbox = Outbox { letters: VecDeque::new(), waiter: Some(SendWaiter::default()), again: false };
        Self { after, sink, owner: OnceLock::new(), outbox: Mutex::new(outbox) }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox<T>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self) {
        if let Some(owner) = self.owner.get().and_then(Weak::upgrade) {
            owner.settle();
        }
    }
}

impl<T: Send + 'static> DeadLetterQueue<T> {
    /// Sends as many dead letters as possible; one thread at a time.
    fn work(self: &Arc<Self>) {
        let mut outbox = self.outbox();
        let Some(mut waiter) = outbox.waiter.take() else {
            outbox.again = true;
            return;
        };
        let waker = Waker::from(Arc::clone(self));
        loop {
            outbox.again = false;
            let mut letter = outbox.letters.pop_front();
            drop(outbox);
            let sent = match letter {
                Some(_) => self.send(&mut waiter, &waker, &mut letter),
                None => Sent::Waiting,
            };
            let waits = match sent {
                Sent::Done | Sent::Closed => {
                    self.settled();
                    false
                }
                Sent::Waiting => true,
                Sent::Busy => {
                    yield_now();
                    false
                }
            };
            outbox = self.outbox();
            if mutant!("queue.lose_letter") {
                letter = None;
            }
            if let Some(letter) = letter {
                outbox.letters.push_front(letter);
            }
            if waits && !outbox.again {
                outbox.waiter = Some(waiter);
                return;
            }
        }
    }
}

impl<T: Send + 'static> DeadLetterQueue<T> {
    /// Sends a dead letter. A panic in it comes from code of the item or from the order of the other queue: this dead
    /// letter is lost, and those behind it are sent.
    fn send(&self, waiter: &mut SendWaiter, waker: &Waker, letter: &mut Option<DeadLetter<T>>) -> Sent {
        let sent = catch(|| {
            let sent = waiter.send(&self.sink.core, waker, letter);
            if matches!(sent, Sent::Closed) {
                crate::log::error!("a dead letter was dropped: the queue for dead letters is closed");
                drop(letter.take());
            }
            sent
        });
        sent.unwrap_or_else(|panic| {
            crate::log::error!(panic, "a dead letter was dropped: sending it panicked");
            // The sender may hold a slot for this dead letter, and there may be no further one to use it.
            waiter.leave(&self.sink.core);
            Sent::Closed
        })
    }
}

impl<T: Send + 'static> Wake for DeadLetterQueue<T> {
    fn wake(self: Arc<Self>) {
        self.work();
    }
}

impl<T: Send + 'static> DeadLetterSink<T> for DeadLetterQueue<T> {
    fn after(&self) -> u32 {
        self.after.get()
    }

    fn serve(&self, owner: Weak<QueueCore<T>>) {
        let _ = self.owner.set(owner);
    }

    fn put(self: Arc<Self>, letter: DeadLetter<T>) {
        self.outbox().letters.push_back(letter);
        self.work();
    }

    fn waiting(&self) -> usize {
        self.outbox().letters.len()
    }
}

impl<T> Drop for DeadLetterQueue<T> {
    fn drop(&mut self) {
        let waiter = self.outbox().waiter.take();
        if let Some(mut waiter) = waiter {
            waiter.leave(&self.sink.core);
        }
    }
}
