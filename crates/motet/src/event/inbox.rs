//! Posted events that wait for their listener.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Overflow;
use crate::mutant;

/// Events in the order in which they were posted, and whether somebody is at them.
pub(super) struct Inbox<T: ?Sized>(Mutex<State<T>>);

struct State<T: ?Sized> {
    events: VecDeque<Arc<T>>,
    /// A task takes the events out, one after the other.
    attended: bool,
    /// How often such a task was cut off.
    abandoned: u64,
}

/// What became of an event that was put in.
pub(super) enum Put<T: ?Sized> {
    /// It waits; whoever attends to the inbox comes to it.
    Queued,
    /// The item waits, and a task must start on it. Contains the number of times that the inbox was
    /// [abandoned](Inbox::abandoned) before.
    Begin(u64),
    /// It waits in the place of this one.
    Instead(Arc<T>),
    /// There is no room for it.
    Full(Arc<T>),
}

impl<T: ?Sized> Default for Inbox<T> {
    fn default() -> Self {
        Self(Mutex::new(State { events: VecDeque::new(), attended: false, abandoned: 0 }))
    }
}

impl<T: ?Sized> Inbox<T> {
    pub(super) fn put(&self, event: Arc<T>, room: NonZeroUsize, overflow: Overflow) -> Put<T> {
        let mut state = self.state();
        let full = state.events.len() >= room.get();
        if full && overflow == Overflow::DropNewest {
            return Put::Full(event);
        }
        let oldest = if full { state.events.pop_front() } else { None };
        state.events.push_back(event);
        match oldest {
            Some(oldest) => Put::Instead(oldest),
            None if state.attended => Put::Queued,
            None => {
                state.attended = true;
                Put::Begin(state.abandoned)
            }
        }
    }

    /// Gives the oldest event; with `None` nobody attends to the inbox any more.
    pub(super) fn take(&self) -> Option<Arc<T>> {
        let mut state = self.state();
        let next =
            if mutant!("event.last_first") { state.events.pop_back() } else { state.events.pop_front() };
        if next.is_none() && !mutant!("event.inbox_left_attended") {
            state.attended = false;
            // A burst is over: what it needed is given back.
            if state.events.capacity() > KEPT {
                state.events = VecDeque::new();
            }
        }
        next
    }

    /// Gives all that is left: nobody attends to the inbox any more.
    pub(super) fn abandon(&self) -> VecDeque<Arc<T>> {
        let mut state = self.state();
        state.attended = false;
        state.abandoned += 1;
        std::mem::take(&mut state.events)
    }

    /// Returns the number of times that the task of the inbox was cancelled.
    pub(super) fn abandoned(&self) -> u64 {
        self.state().abandoned
    }

    /// Only our own code runs under this lock.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for so many is kept when an inbox is empty.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Put,
        Take,
        Abandon,
    }

    proptest! {
        /// Against a list, with one task that attends from the first `Begin` to the first `None`.
        #[test]
        fn inbox_agrees_with_a_list_and_is_always_attended(
            steps in prop::collection::vec(
                prop_oneof![4 => Just(Step::Put), 4 => Just(Step::Take), 1 => Just(Step::Abandon)],
                0..60,
            ),
            room in 1_usize..4,
            oldest in any::<bool>(),
        ) {
            let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
            let inbox = Inbox::<usize>::default();
            let (mut naive, mut attended) = (Vec::new(), false);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put => match inbox.put(Arc::new(number), NonZeroUsize::new(room).unwrap(), overflow) {
                        Put::Full(event) => {
                            prop_assert_eq!(*event, number);
                            prop_assert!(naive.len() == room && !oldest);
                        }
                        Put::Instead(event) => {
                            prop_assert!(naive.len() == room && oldest && attended);
                            prop_assert_eq!(*event, naive.remove(0));
                            naive.push(number);
                        }
                        put => {
                            prop_assert!(naive.len() < room);
                            prop_assert_eq!(matches!(put, Put::Begin(_)), !attended);
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
