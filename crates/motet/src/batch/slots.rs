//! The answers of one batch and the wakers of its callers, shared by all its callers.
//!
//! The callers are no [`WaitList`](crate::sync::WaitList): a caller is found by its slot, and all are answered together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::state::Waiter;
use crate::sync::{Renewal, quietly_drop};

pub(super) struct BatchSlots<T, R, E> {
    pub(super) number: u64,
    phase: Mutex<SlotsPhase<T, R, E>>,
}

enum SlotsPhase<T, R, E> {
    /// The batch does not run yet: the state has the waiters.
    Waits,
    Runs(Vec<Waiter<Waker>>),
    /// The batch has ended; each answer stays until its caller takes it.
    Ended(Answers<T, R, E>),
}

/// Answers and items are values of the user. The owner that releases the batch last drops them, and a panic in such a
/// drop ends here. They are dropped one by one, because a second panic in the drop of one vector would abort the
/// process.
impl<T, R, E> Drop for BatchSlots<T, R, E> {
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut *self.phase(), SlotsPhase::Waits);
        match phase {
            SlotsPhase::Ended(Answers::Each(answers)) => answers.into_iter().for_each(quietly_drop),
            SlotsPhase::Ended(Answers::All(failure)) => quietly_drop(failure),
            SlotsPhase::Ended(Answers::Back(items)) => items.into_iter().for_each(quietly_drop),
            SlotsPhase::Waits | SlotsPhase::Runs(_) => {}
        }
    }
}

/// The result of a batch, by slot.
pub(super) enum Answers<T, R, E> {
    Each(Vec<Option<Result<R, E>>>),
    All(Failure<E>),
    /// The batch did not run: the items are handed back.
    Back(Vec<Option<T>>),
}

/// The result of one item.
pub(super) enum Answer<T, R, E> {
    Each(Result<R, E>),
    All(Failure<E>),
    Back(Option<T>),
}

/// The reason why a whole batch has no answers.
#[derive(Debug)]
pub(super) enum Failure<E> {
    Failed(Arc<E>),
    Panicked(Arc<str>),
    Mismatch { items: usize, answers: usize },
    Cancelled,
}

/// The result of looking for an answer.
pub(super) enum Found<T, R, E> {
    /// The batch does not run yet.
    Waits,
    Runs,
    /// The batch runs, and the slot has another waker.
    OtherWaker,
    Here(Answer<T, R, E>),
}

/// The remains of a batch that has ended.
pub(super) struct Ended<T, R, E> {
    pub(super) waiters: Vec<Waiter<Waker>>,
    /// Answers to posted items, and to items whose callers were dropped.
    pub(super) unasked: Vec<(Waiter<Waker>, Answer<T, R, E>)>,
}

impl<T, R, E> BatchSlots<T, R, E> {
    pub(super) fn new(number: u64) -> Self {
        Self { number, phase: Mutex::new(SlotsPhase::Waits) }
    }

    /// Starts the batch: from now on the waiters are here. Called under the lock of the state.
    pub(super) fn run(&self, waiters: Vec<Waiter<Waker>>) {
        *self.phase() = SlotsPhase::Runs(waiters);
    }

    /// Stores the answers. The caller has to wake the returned waiters.
    pub(super) fn end(&self, mut answers: Answers<T, R, E>) -> Ended<T, R, E> {
        let mut phase = self.phase();
        let waiters = match &mut *phase {
            SlotsPhase::Runs(waiters) => std::mem::take(waiters),
            SlotsPhase::Waits | SlotsPhase::Ended(_) => Vec::new(),
        };
        // No caller would take these answers, and their drop must not run in the task of a neighbour.
        let mut unasked = Vec::new();
        for (at, waiter) in waiters.iter().enumerate() {
            let gone = match waiter {
                Waiter::Asked(_) => continue,
                Waiter::Posted => Waiter::Posted,
                Waiter::Gone => Waiter::Gone,
            };
            unasked.extend(answers.take(at as u32).map(|answer| (gone, answer)));
        }
        *phase = SlotsPhase::Ended(answers);
        Ended { waiters, unasked }
    }

    /// Takes the answer if it is there.
    #[inline(always)]
    pub(super) fn take(&self, slot: u32) -> Option<Answer<T, R, E>> {
        match &mut *self.phase() {
            SlotsPhase::Ended(answers) => answers.take(slot),
            SlotsPhase::Waits | SlotsPhase::Runs(_) => None,
        }
    }

    /// Takes the answer, or checks the waker on the slot.
    pub(super) fn look(&self, slot: u32, renewal: &mut Renewal<'_>) -> Found<T, R, E> {
        match &mut *self.phase() {
            SlotsPhase::Waits => Found::Waits,
            // The answer was not taken before: only the owner of the slot takes it.
            SlotsPhase::Ended(answers) => {
                answers.take(slot).map_or(Found::Here(Answer::Back(None)), Found::Here)
            }
            SlotsPhase::Runs(waiters) => match &mut waiters[slot as usize] {
                Waiter::Asked(kept) => {
                    if renewal.set(kept) {
                        Found::Runs
                    } else {
                        Found::OtherWaker
                    }
                }
                Waiter::Posted | Waiter::Gone => Found::Runs,
            },
        }
    }

    /// Removes a caller from its slot; `None` if the batch does not run yet. The caller drops the returned values
    /// outside of the lock.
    #[allow(clippy::type_complexity, reason = "the content of the slot, or the answer")]
    pub(super) fn leave(&self, slot: u32) -> Option<(Option<Waiter<Waker>>, Option<Answer<T, R, E>>)> {
        match &mut *self.phase() {
            SlotsPhase::Waits => None,
            SlotsPhase::Runs(waiters) => {
                Some((Some(std::mem::replace(&mut waiters[slot as usize], Waiter::Gone)), None))
            }
            SlotsPhase::Ended(answers) => Some((None, answers.take(slot))),
        }
    }

    /// No code of the user runs under this lock, so the state of a poisoned lock is sound.
    fn phase(&self) -> MutexGuard<'_, SlotsPhase<T, R, E>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R, E> Answers<T, R, E> {
    #[inline(always)]
    fn take(&mut self, slot: u32) -> Option<Answer<T, R, E>> {
        let at = slot as usize;
        match self {
            Self::Each(each) => each.get_mut(at)?.take().map(Answer::Each),
            Self::All(failure) => Some(Answer::All(failure.clone())),
            Self::Back(items) => items.get_mut(at)?.take().map(|item| Answer::Back(Some(item))),
        }
    }
}

impl<E> Failure<E> {
    /// The text for the log; the error itself need not implement `Display`.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Failed(_) => "the handler returned an error".to_owned(),
            Self::Panicked(message) => format!("the handler panicked: {message}"),
            Self::Mismatch { items, answers } => {
                format!("the handler returned {answers} answers to {items} items")
            }
            Self::Cancelled => "the batch was cancelled with its scope".to_owned(),
        }
    }
}

impl<E> Clone for Failure<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked(message) => Self::Panicked(Arc::clone(message)),
            Self::Mismatch { items, answers } => Self::Mismatch { items: *items, answers: *answers },
            Self::Cancelled => Self::Cancelled,
        }
    }
}
