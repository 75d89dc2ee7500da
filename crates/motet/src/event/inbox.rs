//! The posted events that wait for a listener.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mutant;

/// The policy of a listener whose backlog is full when an event is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The listener does not receive the new event.
    DropNewest,
    /// The listener does not receive the oldest event of its backlog.
    DropOldest,
}

/// The events in the order in which they were posted, and whether a task is handling them.
pub(super) struct Inbox<T: ?Sized>(Mutex<InboxState<T>>);

struct InboxState<T: ?Sized> {
    events: VecDeque<Arc<T>>,
    /// `true` while a task takes the events out, one after the other.
    attended: bool,
    /// The number of times that such a task was dropped before the inbox was empty.
    abandoned: u64,
}

/// The result of putting in an event.
pub(super) enum InboxPut<T: ?Sized> {
    /// The event waits; the running task will take it out.
    Queued,
    /// The event waits, and the caller must start a task. Contains the number of times that the inbox was
    /// [abandoned](Inbox::abandoned) before.
    Begin(u64),
    /// The event waits, and this oldest event was removed for it.
    Instead(Arc<T>),
    /// The inbox is full; the event is handed back.
    Full(Arc<T>),
}

impl<T: ?Sized> Default for Inbox<T> {
    fn default() -> Self {
        Self(Mutex::new(InboxState { events: VecDeque::new(), attended: false, abandoned: 0 }))
    }
}

impl<T: ?Sized> Inbox<T> {
    pub(super) fn put(&self, event: Arc<T>, backlog: NonZeroUsize, overflow: Overflow) -> InboxPut<T> {
        let mut state = self.state();
        let full = state.events.len() >= backlog.get();
        if full && overflow == Overflow::DropNewest {
            return InboxPut::Full(event);
        }
        let oldest = if full { state.events.pop_front() } else { None };
        state.events.push_back(event);
        match oldest {
            Some(oldest) => InboxPut::Instead(oldest),
            None if state.attended => InboxPut::Queued,
            None => {
                state.attended = true;
                InboxPut::Begin(state.abandoned)
            }
        }
    }

    /// Removes the oldest event. `None` if the inbox is empty; then no task is registered any more.
    pub(super) fn take(&self) -> Option<Arc<T>> {
        let mut state = self.state();
        if mutant!("event.last_first") {
            let count = state.events.len();
            state.events.rotate_right(count.min(1));
        }
        let next = state.events.pop_front();
        if mutant!("event.inbox_left_attended") {
            return next;
        }
        if next.is_none() {
            state.attended = false;
            // The burst is over: its memory is returned.
            if state.events.capacity() > KEPT {
                state.events = VecDeque::new();
            }
        }
        next
    }

    /// Removes all events; then no task is registered any more.
    pub(super) fn abandon(&self) -> VecDeque<Arc<T>> {
        let mut state = self.state();
        state.attended = false;
        state.abandoned += 1;
        std::mem::take(&mut state.events)
    }

    /// The number of times that the task of the inbox was cancelled.
    pub(super) fn abandoned(&self) -> u64 {
        self.state().abandoned
    }

    /// No code of the user runs under this lock, so the state of a poisoned lock is consistent.
    fn state(&self) -> MutexGuard<'_, InboxState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The capacity that an empty inbox keeps.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        InboxPut,
        Take,
        Abandon,
    }

    proptest! {
        /// Compares an inbox with a list; one task runs from the first `Begin` to the first `None`.
        #[test]
        fn inbox_agrees_with_a_list_and_has_a_task_while_it_has_events(
            steps in prop::collection::vec(
                prop_oneof![4 => Just(Step::InboxPut), 4 => Just(Step::Take), 1 => Just(Step::Abandon)],
                0..60,
            ),
            backlog in 1_usize..4,
            oldest in any::<bool>(),
        ) {
            let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
            let inbox = Inbox::<usize>::default();
            let (mut naive, mut attended) = (Vec::new(), false);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::InboxPut => match inbox.put(Arc::new(number), NonZeroUsize::new(backlog).unwrap(), overflow) {
                        InboxPut::Full(event) => {
                            prop_assert_eq!(*event, number);
                            prop_assert!(naive.len() == backlog && !oldest);
                        }
                        InboxPut::Instead(event) => {
                            prop_assert!(naive.len() == backlog && oldest && attended);
                            prop_assert_eq!(*event, naive.remove(0));
                            naive.push(number);
                        }
                        put => {
                            prop_assert!(naive.len() < backlog);
                            prop_assert_eq!(matches!(put, InboxPut::Begin(_)), !attended);
                            attended = true;
                            naive.push(number);
                        }
                    },
                    Step::Take if attended => {
                        let next = inbox.take().map(|event| *event);
                        prop_assert_eq!(next, (!naive.is_empty()).then(|| naive.remove(0)));
                        attended = next.is_some();
                    }
                    Step::Abandon if attended => {
                        let left: Vec<_> = inbox.abandon().into_iter().map(|event| *event).collect();
                        prop_assert_eq!(left, std::mem::take(&mut naive));
                        attended = false;
                    }
                    Step::Take | Step::Abandon => {}
                }
                prop_assert!(attended || naive.is_empty(), "events wait without a task");
            }
        }
    }
}
