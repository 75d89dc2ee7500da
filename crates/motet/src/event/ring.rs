//! The events that wait for the reader of a stream. The oldest event is dropped when the ring is full.
//!
//! The ring has one reader, so its waker is a field and not a [`WaitList`](crate::sync::WaitList).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::mutant;
use crate::sync::wake_each;

pub(super) struct Ring<T>(Mutex<RingState<T>>);

struct RingState<T> {
    events: VecDeque<T>,
    capacity: usize,
    /// The number of events dropped since the reader was last informed.
    missed: u64,
    ended: bool,
    reader: Option<Waker>,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RingRead<T> {
    Event(T),
    Missed(u64),
    End,
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Mutex::new(RingState {
            events: VecDeque::new(),
            capacity,
            missed: 0,
            ended: false,
            reader: None,
        }))
    }

    /// Adds an event. Returns the oldest event if it was removed because the ring was full.
    pub(super) fn put(&self, event: T) -> Option<T> {
        let mut state = self.state();
        let oldest = if state.events.len() >= state.capacity { state.events.pop_front() } else { None };
        state.missed += u64::from(oldest.is_some());
        state.events.push_back(event);
        if mutant!("event.reader_not_woken") {
            state.reader = None;
        }
        let reader = state.reader.take();
        drop(state);
        wake_each(reader);
        oldest
    }

    /// Ends the ring: no more events follow.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let reader = state.reader.take();
        drop(state);
        wake_each(reader);
    }

    pub(super) fn poll_read(&self, cx: &Context<'_>) -> Poll<RingRead<T>> {
        if let Some(read) = self.state().read() {
            return Poll::Ready(read);
        }
        // The clone, and the drop below, may run code of the user, so they run outside of the lock.
        let waker = cx.waker().clone();
        let mut state = self.state();
        // Read again under the lock: an event may have arrived since.
        let read = state.read();
        let unused = if read.is_none() { state.reader.replace(waker) } else { Some(waker) };
        drop(state);
        drop(unused);
        read.map_or(Poll::Pending, Poll::Ready)
    }

    /// No code of the user runs under this lock, so the state of a poisoned lock is consistent.
    fn state(&self) -> MutexGuard<'_, RingState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> RingState<T> {
    fn read(&mut self) -> Option<RingRead<T>> {
        if self.missed > 0 {
            return Some(RingRead::Missed(std::mem::take(&mut self.missed)));
        }
        if let Some(event) = self.events.pop_front() {
            return Some(RingRead::Event(event));
        }
        self.ended.then_some(RingRead::End)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ring_yields_events_in_order_and_the_number_of_missed_ones(
            puts in prop::collection::vec(any::<bool>(), 0..60),
            capacity in 1_usize..4,
        ) {
            let ring = Ring::new(capacity);
            let cx = Context::from_waker(Waker::noop());
            let (mut naive, mut missed) = (VecDeque::new(), 0);
            for (number, put) in puts.into_iter().enumerate() {
                if put {
                    let oldest = (naive.len() == capacity).then(|| naive.pop_front().unwrap());
                    missed += u64::from(oldest.is_some());
                    naive.push_back(number);
                    prop_assert_eq!(ring.put(number), oldest);
                    continue;
                }
                let expected = match (std::mem::take(&mut missed), naive.is_empty()) {
                    (0, true) => Poll::Pending,
                    (0, false) => Poll::Ready(RingRead::Event(naive.pop_front().unwrap())),
                    (missed, _) => Poll::Ready(RingRead::Missed(missed)),
                };
                prop_assert_eq!(ring.poll_read(&cx), expected);
            }
            ring.end();
            let left = std::iter::from_fn(|| match ring.poll_read(&cx) {
                Poll::Ready(RingRead::End) | Poll::Pending => None,
                Poll::Ready(read) => Some(read),
            });
            let missed = (missed > 0).then_some(RingRead::Missed(missed));
            prop_assert_eq!(
                left.collect::<Vec<_>>(),
                missed.into_iter().chain(naive.into_iter().map(RingRead::Event)).collect::<Vec<_>>()
            );
        }
    }
}
