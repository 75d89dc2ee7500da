//! The answers of one batch and the wakers of its callers, shared by all its callers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::state::Seat;
use crate::task::caught::quietly_drop;
use crate::task::renew::Renewal;

pub(super) struct Block<T, R, E> {
    pub(super) number: u64,
    phase: Mutex<Phase<T, R, E>>,
}

enum Phase<T, R, E> {
    /// The batch does not run yet: the state has the seats.
    Waits,
    Runs(Vec<Seat<Waker>>),
    /// The batch has ended; each answer stays until its caller takes it.
    Ended(Answers<T, R, E>),
}

/// Answers and items are values of the user. The owner that releases the batch last drops them, and a panic in such a
/// drop ends here. They are dropped one by one, because a second panic in the drop of one vector would abort the
/// process.
impl<T, R, E> Drop for Block<T, R, E> {
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut *self.phase(), Phase::Waits);
        match phase {
            Phase::Ended(Answers::Each(answers)) => answers.into_iter().for_each(quietly_drop),
            Phase::Ended(Answers::All(failure)) => quietly_drop(failure),
            Phase::Ended(Answers::Back(items)) => items.into_iter().for_each(quietly_drop),
            Phase::Waits | Phase::Runs(_) => {}
        }
    }
}

/// The result of a batch, by seat.
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
    /// The batch runs, and the seat has another waker.
    OtherWaker,
    Here(Answer<T, R, E>),
}

/// The remains of a batch that has ended.
pub(super) struct Ended<T, R, E> {
    pub(super) seats: Vec<Seat<Waker>>,
    /// Answers to posted items, and to items whose callers were dropped.
    pub(super) unasked: Vec<(Seat<Waker>, Answer<T, R, E>)>,
}

impl<T, R, E> Block<T, R, E> {
    pub(super) fn new(number: u64) -> Self {
        Self { number, phase: Mutex::new(Phase::Waits) }
    }

    /// Starts the batch: from now on its callers find their seats here. Called under the lock of the state.
    pub(super) fn run(&self, seats: Vec<Seat<Waker>>) {
        *self.phase() = Phase::Runs(seats);
    }

    /// Stores the answers. The caller has to wake the returned seats.
    pub(super) fn end(&self, mut answers: Answers<T, R, E>) -> Ended<T, R, E> {
        let mut phase = self.phase();
        let seats = match &mut *phase {
            Phase::Runs(seats) => std::mem::take(seats),
            Phase::Waits | Phase::Ended(_) => Vec::new(),
        };
        // No caller would take these answers, and their drop must not run in the task of a neighbour.
        let mut unasked = Vec::new();
        for (at, seat) in seats.iter().enumerate() {
            let gone = match seat {
                Seat::Asked(_) => continue,
                Seat::Posted => Seat::Posted,
                Seat::Gone => Seat::Gone,
            };
            unasked.extend(answers.take(at as u32).map(|answer| (gone, answer)));
        }
        *phase = Phase::Ended(answers);
        Ended { seats, unasked }
    }

    /// Takes the answer if it is there.
    #[inline(always)]
    pub(super) fn take(&self, seat: u32) -> Option<Answer<T, R, E>> {
        match &mut *self.phase() {
            Phase::Ended(answers) => answers.take(seat),
            Phase::Waits | Phase::Runs(_) => None,
        }
    }

    /// Takes the answer, or checks the waker on the seat.
    pub(super) fn look(&self, seat: u32, renewal: &mut Renewal<'_>) -> Found<T, R, E> {
        match &mut *self.phase() {
            Phase::Waits => Found::Waits,
            // The answer was not taken before: only the owner of the seat takes it.
            Phase::Ended(answers) => answers.take(seat).map_or(Found::Here(Answer::Back(None)), Found::Here),
            Phase::Runs(seats) => match &mut seats[seat as usize] {
                Seat::Asked(kept) => {
                    if renewal.set(kept) {
                        Found::Runs
                    } else {
                        Found::OtherWaker
                    }
                }
                Seat::Posted | Seat::Gone => Found::Runs,
            },
        }
    }

    /// Removes a caller from its seat; `None` if the batch does not run yet. The caller drops the returned values
    /// outside of the lock.
    #[allow(clippy::type_complexity, reason = "the content of the seat, or the answer")]
    pub(super) fn leave(&self, seat: u32) -> Option<(Option<Seat<Waker>>, Option<Answer<T, R, E>>)> {
        match &mut *self.phase() {
            Phase::Waits => None,
            Phase::Runs(seats) => {
                Some((Some(std::mem::replace(&mut seats[seat as usize], Seat::Gone)), None))
            }
            Phase::Ended(answers) => Some((None, answers.take(seat))),
        }
    }

    /// No code of the user runs under this lock, so the state of a poisoned lock is sound.
    fn phase(&self) -> MutexGuard<'_, Phase<T, R, E>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R, E> Answers<T, R, E> {
    #[inline(always)]
    fn take(&mut self, seat: u32) -> Option<Answer<T, R, E>> {
        let at = seat as usize;
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
