//! Dead letters: items that were tried too often, on their way to another queue.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};

use super::core::Core;
use super::line::{Sent, Turn};
use super::sync::yield_now;
use super::{DeadLetter, Sender};
use crate::mutant;
use crate::task::core::panic_words;

/// The sink of dead letters, without the type of its queue: the type would be infinite otherwise.
pub(super) trait Letters<T>: Send + Sync {
    /// The number of attempts after which an item is a dead letter.
    fn after(&self) -> u32;

    /// Sets the queue that the dead letters come from.
    fn serve(&self, owner: Weak<Core<T>>);

    /// Sends a dead letter, now or when there is a free slot. It never waits.
    fn put(self: Arc<Self>, letter: DeadLetter<T>);

    /// The number of dead letters that wait for a free slot.
    fn waiting(&self) -> usize;
}

/// Dead letters on their way to their queue. The box waits in the line of that queue like a sender. Its waker sends the
/// next dead letter, on the thread that freed the slot, so no task is needed.
pub(super) struct LetterBox<T> {
    after: NonZeroU32,
    sink: Sender<DeadLetter<T>>,
    owner: OnceLock<Weak<Core<T>>>,
    desk: Mutex<Desk<T>>,
}

struct Desk<T> {
    letters: VecDeque<DeadLetter<T>>,
    /// The position in the line of the other queue; `None` while a thread is sending.
    turn: Option<Turn>,
    /// Set when a dead letter or a wake has arrived since the sending thread last checked.
    again: bool,
}

impl<T> LetterBox<T> {
    pub(super) fn new(after: NonZeroU32, sink: Sender<DeadLetter<T>>) -> Self {
        let desk = Desk { letters: VecDeque::new(), turn: Some(Turn::default()), again: false };
        Self { after, sink, owner: OnceLock::new(), desk: Mutex::new(desk) }
    }

    fn desk(&self) -> MutexGuard<'_, Desk<T>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self) {
        if let Some(owner) = self.owner.get().and_then(Weak::upgrade) {
            owner.settle();
        }
    }
}

impl<T: Send + 'static> LetterBox<T> {
    /// Sends as many dead letters as possible; one thread at a time.
    fn work(self: &Arc<Self>) {
        let mut desk = self.desk();
        let Some(mut turn) = desk.turn.take() else {
            desk.again = true;
            return;
        };
        let waker = Waker::from(Arc::clone(self));
        loop {
            desk.again = false;
            let mut letter = desk.letters.pop_front();
            drop(desk);
            let sent = match letter {
                Some(_) => self.send(&mut turn, &waker, &mut letter),
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
            desk = self.desk();
            if let Some(letter) = letter
                && !mutant!("queue.lose_letter")
            {
                desk.letters.push_front(letter);
            }
            if waits && !desk.again {
                desk.turn = Some(turn);
                return;
            }
        }
    }
}

impl<T: Send + 'static> LetterBox<T> {
    /// Sends a dead letter. A panic in it comes from code of the item or from the order of the other queue: this dead
    /// letter is lost, and those behind it are sent.
    fn send(&self, turn: &mut Turn, waker: &Waker, letter: &mut Option<DeadLetter<T>>) -> Sent {
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let sent = turn.send(&self.sink.core, waker, letter);
            if matches!(sent, Sent::Closed) {
                crate::log::error!("a dead letter was dropped: the queue for dead letters is closed");
                drop(letter.take());
            }
            sent
        }));
        sent.unwrap_or_else(|payload| {
            let panic = panic_words(payload);
            crate::log::error!(panic, "a dead letter was dropped: sending it panicked");
            // The sender may hold a slot for this dead letter, and there may be no further one to use it.
            turn.leave(&self.sink.core);
            Sent::Closed
        })
    }
}

impl<T: Send + 'static> Wake for LetterBox<T> {
    fn wake(self: Arc<Self>) {
        self.work();
    }
}

impl<T: Send + 'static> Letters<T> for LetterBox<T> {
    fn after(&self) -> u32 {
        self.after.get()
    }

    fn serve(&self, owner: Weak<Core<T>>) {
        let _ = self.owner.set(owner);
    }

    fn put(self: Arc<Self>, letter: DeadLetter<T>) {
        self.desk().letters.push_back(letter);
        self.work();
    }

    fn waiting(&self) -> usize {
        self.desk().letters.len()
    }
}

impl<T> Drop for LetterBox<T> {
    fn drop(&mut self) {
        let turn = self.desk().turn.take();
        if let Some(mut turn) = turn {
            turn.leave(&self.sink.core);
        }
    }
}
