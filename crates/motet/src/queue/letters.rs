//! What was tried too often, and goes to another queue.

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

/// Where dead letters go, whatever the rest of that queue's type: it would be without end otherwise.
pub(super) trait Letters<T>: Send + Sync {
    /// After how many attempts an item is a dead letter.
    fn after(&self) -> u32;

    /// The queue that they come from.
    fn serve(&self, owner: Weak<Core<T>>);

    /// Hands one over, now or when there is room; never waits.
    fn put(self: Arc<Self>, letter: DeadLetter<T>);

    /// How many wait for room.
    fn waiting(&self) -> usize;
}

/// Letters on their way. It waits in the line of the sink as a sender does, and its waker hands the next one over, on
/// the thread that made the room: so no task is needed for it.
pub(super) struct LetterBox<T> {
    after: NonZeroU32,
    sink: Sender<DeadLetter<T>>,
    owner: OnceLock<Weak<Core<T>>>,
    desk: Mutex<Desk<T>>,
}

struct Desk<T> {
    letters: VecDeque<DeadLetter<T>>,
    /// Its turn at the sink; with whoever is at work.
    turn: Option<Turn>,
    /// Something has happened since whoever is at work has looked.
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
    /// Hands over what can be; one thread at a time.
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
    /// Hands one over. What panics in that is code of the item or of the sink's order: the letter is lost with it, and
    /// those behind it are not.
    fn send(&self, turn: &mut Turn, waker: &Waker, letter: &mut Option<DeadLetter<T>>) -> Sent {
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let sent = turn.send(&self.sink.core, waker, letter);
            if matches!(sent, Sent::Closed) {
                crate::log::error!("a dead letter is lost: the queue for them is closed");
                drop(letter.take());
            }
            sent
        }));
        sent.unwrap_or_else(|payload| {
            let panic = panic_words(payload);
            crate::log::error!(panic, "a dead letter is lost: it panicked on its way");
            // It may hold a place for this letter, and there may be no other.
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
