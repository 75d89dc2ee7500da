//! The state that the task of the source shares with all readers.
//!
//! The readers are no [`WaitList`](crate::sync::WaitList): they have no order, and each has its own items while it waits and
//! while it does not.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::event::{Lag, LagError};
use crate::stream::tasks::Panicked;
use crate::sync::{WakeList, panic_message, wake_each};
use crate::task::{Name, Scope};
use crate::{mutant, sim};

pub(super) struct Hub<T> {
    pub(super) lag: Lag,
    pub(super) scope: Scope,
    pub(super) name: Name,
    state: Mutex<State<T>>,
}

struct State<T> {
    readers: Slab<Reader<T>>,
    end: Option<End>,
    /// The waker of the task that reads the source.
    driver: Option<Waker>,
}

struct Reader<T> {
    items: VecDeque<Arc<T>>,
    /// Items that were dropped since the reader was last informed.
    missed: u64,
    waker: Option<Waker>,
    /// `true` if the reader has received the end.
    has_ended: bool,
}

/// The end of the source.
pub(super) enum End {
    Over,
    CutOff,
    /// The first reader that reaches it rethrows the panic, the other readers panic with its message.
    Panicked(Option<Box<Panicked>>, String),
}

/// The result of a read.
pub(super) enum Read<T> {
    Item(Result<Arc<T>, LagError>),
    Panicked(Box<Panicked>),
    Words(String),
    End,
}

impl<T> Hub<T> {
    pub(super) fn new(lag: Lag, scope: Scope, name: Name, readers: usize) -> Self {
        let mut all = Slab::with_capacity(readers);
        for _ in 0..readers {
            all.insert(Reader { items: VecDeque::new(), missed: 0, waker: None, has_ended: false });
        }
        Self { lag, scope, name, state: Mutex::new(State { readers: all, end: None, driver: None }) }
    }

    /// No user code runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn capacity(&self) -> usize {
        match self.lag {
            Lag::Wait(capacity) | Lag::DropOldest(capacity) => capacity.get(),
            Lag::Latest => 1,
        }
    }

    /// Waits for a reader that needs an item: with [`Lag::Wait`] until every reader has capacity, else at once. Returns
    /// `false` if no reader is left.
    pub(super) fn poll_wanted(&self, cx: &Context<'_>) -> Poll<bool> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.readers.is_empty() {
            return Poll::Ready(false);
        }
        // Registered also while the task waits for the source, so that it is woken when the last reader is dropped.
        let replaced = state.driver.replace(waker);
        let mut full = matches!(self.lag, Lag::Wait(_))
            && state.readers.iter().any(|(_, reader)| reader.items.len() >= self.capacity());
        if mutant!("stream.broadcast_no_wait") {
            full = false;
        }
        drop(state);
        drop(replaced);
        if full { Poll::Pending } else { Poll::Ready(true) }
    }

    /// Passes the item to every reader.
    pub(super) fn put(&self, item: T) {
        sim::op("stream.broadcast");
        let item = Arc::new(item);
        let (mut wakers, mut gone) = (WakeList::default(), Vec::new());
        let mut state = self.lock();
        for (_, reader) in &mut state.readers {
            if reader.items.len() >= self.capacity() && !matches!(self.lag, Lag::Wait(_)) {
                gone.extend(reader.items.pop_front());
                reader.missed += u64::from(matches!(self.lag, Lag::DropOldest(_)));
            }
            reader.items.push_back(Arc::clone(&item));
            wakers.extend(reader.waker.take());
        }
        drop(state);
        wakers.wake();
        // Outside of the lock: this may be the last reference to an item, whose drop is user code.
        drop(gone);
    }

    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        let mut end = Some(end);
        if state.end.is_none() {
            state.end = end.take();
        }
        let driver = state.driver.take();
        let mut wakers = WakeList::default();
        wakers.extend(state.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()));
        drop(state);
        drop((driver, end));
        wakers.wake();
    }

    pub(super) fn poll_read(&self, reader: usize, cx: &Context<'_>) -> Poll<Read<T>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        let State { readers, end, driver } = &mut *state;
        let this = &mut readers[reader];
        if this.missed > 0 {
            return Poll::Ready(Read::Item(Err(LagError(std::mem::take(&mut this.missed)))));
        }
        let was_full = matches!(self.lag, Lag::Wait(_)) && this.items.len() >= self.capacity();
        if let Some(item) = this.items.pop_front() {
            // The task may wait for the capacity of this reader.
            let driver = if was_full { driver.take() } else { None };
            drop(state);
            wake_each(driver);
            return Poll::Ready(Read::Item(Ok(item)));
        }
        let Some(end) = end else {
            let replaced = this.waker.replace(waker);
            drop(state);
            drop(replaced);
            return Poll::Pending;
        };
        if std::mem::replace(&mut this.has_ended, true) {
            return Poll::Ready(Read::End);
        }
        Poll::Ready(match end {
            End::Over | End::CutOff => Read::End,
            End::Panicked(panicked, words) => match panicked.take() {
                Some(panicked) => Read::Panicked(panicked),
                None => Read::Words(words.clone()),
            },
        })
    }

    pub(super) fn is_cut_off(&self, reader: usize) -> bool {
        let state = self.lock();
        matches!(state.end, Some(End::CutOff)) && state.readers[reader].items.is_empty()
    }

    /// Adds a reader with the unread items of the reader `like`.
    pub(super) fn join(&self, like: usize) -> usize {
        let mut state = self.lock();
        let Reader { items, missed, has_ended, .. } = &state.readers[like];
        let reader = Reader { items: items.clone(), missed: *missed, waker: None, has_ended: *has_ended };
        state.readers.insert(reader)
    }

    pub(super) fn leave(&self, reader: usize) {
        let mut state = self.lock();
        let left = state.readers.remove(reader);
        // The task may wait for the capacity of this reader; or this was the last reader.
        let driver = state.driver.take();
        let end = if state.readers.is_empty() { state.end.take() } else { None };
        drop(state);
        wake_each(driver);
        drop((left, end));
    }

    pub(super) fn panicked(&self, payload: Box<dyn Any + Send>) -> End {
        let words = panic_message(&*payload).to_owned();
        End::Panicked(Some(Box::new(Panicked::new(payload, &self.scope, &self.name))), words)
    }
}
