//! Where the answers of one batch will be, and who is told: one for all that asked.

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
    /// The batch is not taken: the seats are with the state.
    Waits,
    Runs(Vec<Seat<Waker>>),
    /// Each answer is there until whoever asked takes it.
    Ended(Answers<T, R, E>),
}

/// Answers and items are a user's, and are dropped by whoever lets go of the batch last: a panic of one ends here. One by
/// one, for a second panic in the drop of one vector would end the process.
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

/// What became of a batch, by seat.
pub(super) enum Answers<T, R, E> {
    Each(Vec<Option<Result<R, E>>>),
    All(Failure<E>),
    /// It did not run: the items.
    Back(Vec<Option<T>>),
}

/// What became of one item.
pub(super) enum Answer<T, R, E> {
    Each(Result<R, E>),
    All(Failure<E>),
    Back(Option<T>),
}

/// Why a whole batch has no answers.
#[derive(Debug)]
pub(super) enum Failure<E> {
    Failed(Arc<E>),
    Panicked(Arc<str>),
    Mismatch { items: usize, answers: usize },
    Cancelled,
}

/// Where an answer is.
pub(super) enum Found<T, R, E> {
    /// The batch is not taken yet.
    Waits,
    Runs,
    /// It runs, and has another waker on the seat.
    OtherWaker,
    Here(Answer<T, R, E>),
}

/// What is left of a batch that has ended.
pub(super) struct Ended<T, R, E> {
    pub(super) seats: Vec<Seat<Waker>>,
    /// Answers to what was posted, or asked by somebody who is gone.
    pub(super) unasked: Vec<(Seat<Waker>, Answer<T, R, E>)>,
}

impl<T, R, E> Block<T, R, E> {
    pub(super) fn new(number: u64) -> Self {
        Self { number, phase: Mutex::new(Phase::Waits) }
    }

    /// The batch is taken: whoever asks finds the seats here now. Called under the lock of the state.
    pub(super) fn run(&self, seats: Vec<Seat<Waker>>) {
        *self.phase() = Phase::Runs(seats);
    }

    /// Puts the answers in place. Those on the seats are to be woken.
    pub(super) fn end(&self, mut answers: Answers<T, R, E>) -> Ended<T, R, E> {
        let mut phase = self.phase();
        let seats = match &mut *phase {
            Phase::Runs(seats) => std::mem::take(seats),
            Phase::Waits | Phase::Ended(_) => Vec::new(),
        };
        // Nobody would ever take these, and their drop is not to happen in the task of a neighbour.
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

    /// Takes the answer, or looks at the waker on the seat.
    pub(super) fn look(&self, seat: u32, renewal: &mut Renewal<'_>) -> Found<T, R, E> {
        match &mut *self.phase() {
            Phase::Waits => Found::Waits,
            // It was never taken before: it is with whoever has the seat.
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

    /// Takes one off its seat; `None` when the batch is not taken. What comes back is to be dropped outside of
    /// the lock.
    #[allow(clippy::type_complexity, reason = "what was in the seat, or the answer that was there")]
    pub(super) fn leave(&self, seat: u32) -> Option<(Option<Seat<Waker>>, Option<Answer<T, R, E>>)> {
        match &mut *self.phase() {
            Phase::Waits => None,
            Phase::Runs(seats) => {
                Some((Some(std::mem::replace(&mut seats[seat as usize], Seat::Gone)), None))
            }
            Phase::Ended(answers) => Some((None, answers.take(seat))),
        }
    }

    /// No code of a user runs under this lock, so a poisoned one holds a sound state.
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
    /// For the log; the error itself need not be printable.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Failed(_) => "the handler returned an error".to_owned(),
            Self::Panicked(message) => format!("the handler panicked: {message}"),
            Self::Mismatch { items, answers } => format!("{answers} answers to {items} items"),
            Self::Cancelled => "it was cancelled with its scope".to_owned(),
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
