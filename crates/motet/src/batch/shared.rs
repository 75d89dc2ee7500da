//! The state that the handles of a batcher, its waiting callers and its running batches share.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::block::{Answer, Answers, Block, Found};
use super::entering::Key;
use super::run::Running;
use super::state::{Batch, Seat, Seating, State};
use crate::mutant;
use crate::task::core::{Level, panic_message};
use crate::task::notify::Notify;
use crate::task::renew::renew;
use crate::task::wakers::wake_each;
use crate::task::{Name, Scope};

pub(super) type Core<T, R, E> = State<T, Waker, Arc<Block<T, R, E>>>;
type Taken<T, R, E> = Batch<T, Waker, Arc<Block<T, R, E>>>;

pub(super) struct Shared<T, R, E> {
    pub(super) state: Mutex<Core<T, R, E>>,
    /// Notified whenever a batch has ended, for callers that wait for several batches.
    pub(super) ended: Notify,
    /// Notified when the watch has less to wait for.
    pub(super) watch: Notify,
    pub(super) scope: Scope,
    pub(super) name: Name,
    pub(super) site: &'static Location<'static>,
    pub(super) max_delay: Option<Duration>,
    pub(super) weigh: Option<Weigh<T>>,
    pub(super) start: Start<T, R, E>,
    /// Starts the watch. It is a function pointer, so that only the code that creates a batcher needs the `Send`
    /// bounds.
    pub(super) start_watch: fn(&Arc<Self>),
    pub(super) spread: Spread<R, E>,
}

/// The maximum weight and the weight of an item. The closure runs in the task of the caller.
pub(super) type Weigh<T> = (u64, Box<dyn Fn(&T) -> u64 + Send + Sync>);

/// Starts a task for a batch. It contains the handler and the type of its future.
pub(super) type Start<T, R, E> = Box<dyn Fn(Running<T, R, E>) + Send + Sync>;

/// Assigns the answers of the items to the seats of the callers.
pub(super) type Spread<R, E> = fn(&Seating, Vec<Result<R, E>>) -> Vec<Option<Result<R, E>>>;

/// The work that follows a change of the state, once the lock is released.
struct Todo<T, R, E> {
    batches: Vec<Running<T, R, E>>,
    wakers: Vec<Waker>,
}

impl<T, R, E> Shared<T, R, E> {
    /// No code of the user runs under this lock, so the state of a poisoned lock is sound.
    pub(super) fn state(&self) -> MutexGuard<'_, Core<T, R, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if the scope starts no more batches.
    pub(super) fn is_over(&self) -> bool {
        self.scope.0.reached(Level::Children)
    }

    /// Adds an item for which there is capacity, and does the work that follows.
    #[inline(always)]
    pub(super) fn push(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, Core<T, R, E>>,
        item: T,
        weight: u64,
        seat: Seat<Waker>,
        key: Option<Key>,
    ) -> (Arc<Block<T, R, E>>, u32) {
        let begin = |number| {
            let deadline = self.max_delay.and_then(|delay| Instant::now().checked_add(delay));
            (Arc::new(Block::new(number)), deadline)
        };
        let pushed = state.push(item, weight, seat, begin);
        if let (Some(key), Some(open)) = (key, state.open()) {
            open.note_key(key.hash, key.before);
        }
        self.settle(state);
        pushed
    }

    /// Does the work that follows a change of the state: starts batches, notifies callers in line, starts a watch. All
    /// of it once the lock is released.
    #[inline(always)]
    pub(super) fn settle(self: &Arc<Self>, state: MutexGuard<'_, Core<T, R, E>>) {
        if !state.is_at_rest() {
            self.settle_what_is_left(state);
        }
    }

    #[inline(never)]
    fn settle_what_is_left(self: &Arc<Self>, mut state: MutexGuard<'_, Core<T, R, E>>) {
        let mut todo = Todo { batches: Vec::new(), wakers: Vec::new() };
        while let Some(batch) = state.next() {
            todo.batches.push(self.take(batch));
        }
        state.offer(&mut todo.wakers);
        let unwatched = state.wants_watch();
        state.watched |= unwatched;
        drop(state);
        wake_each(todo.wakers);
        todo.batches.into_iter().for_each(&self.start);
        if unwatched {
            (self.start_watch)(self);
        }
    }

    /// Turns a batch into a running one: under the lock, so that a caller always finds its seat in the state or in the
    /// block.
    fn take(self: &Arc<Self>, batch: Taken<T, R, E>) -> Running<T, R, E> {
        let Batch { block, items, seats, seating, .. } = batch;
        block.run(seats);
        Running::new(Arc::clone(self), block, items, seating)
    }

    /// Ends a running batch: its callers get their answers, and the next batch may start.
    pub(super) fn end(self: &Arc<Self>, block: &Block<T, R, E>, mut answers: Answers<T, R, E>) {
        let whole = match &answers {
            Answers::Each(_) => None,
            Answers::All(failure) => Some(failure.words()),
            Answers::Back(_) => Some("the batch did not run".into()),
        };
        if let Some(why) = &whole {
            crate::log::warn!(scope = self.scope.name(), batcher = %self.name, why, "a batch failed");
        }
        if let Answers::Each(each) = &mut answers
            && mutant!("batch.swap_answers")
            && each.len() > 1
        {
            each.swap(0, 1);
        }
        let panicked = whole.is_some() && !matches!(answers, Answers::Back(_));
        let mut ended = block.end(answers);
        let failed = |(seat, answer): &&(Seat<Waker>, Answer<T, R, E>)| {
            matches!(seat, Seat::Posted) && !matches!(answer, Answer::Each(Ok(_)))
        };
        let failed_posts = ended.unasked.iter().filter(failed).count();
        let mut state = self.state();
        if !(panicked && mutant!("batch.leak_slot")) {
            state.end(block.number);
        }
        state.totals.failed_batches += u64::from(whole.is_some());
        state.totals.failed_posts += failed_posts as u64;
        if !mutant!("batch.start_no_next") {
            // The next batch first: its handler has something to wait for, the answered callers have not.
            self.settle(state);
        }
        if mutant!("batch.lost_wake") {
            ended.seats.pop();
        }
        wake_each(ended.seats.into_iter().filter_map(|seat| match seat {
            Seat::Asked(waker) => Some(waker),
            Seat::Posted | Seat::Gone => None,
        }));
        self.ended.notify_waiters();
        if failed_posts > 0 {
            crate::log::warn!(scope = self.scope.name(), batcher = %self.name, failed_posts, "posted items failed");
        }
        for unasked in ended.unasked {
            self.drop_caught(unasked);
        }
    }

    /// Closes the batcher, and hands back all waiting items: the scope has ended, or is cancelled.
    pub(super) fn abandon(self: &Arc<Self>) {
        let mut state = self.state();
        let left = state.abandon();
        let left: Vec<_> = left.into_iter().map(|batch| (Arc::clone(&batch.block), batch)).collect();
        let mut posted = 0;
        let mut backs = Vec::with_capacity(left.len());
        for (block, batch) in left {
            let Batch { items, seats, seating, .. } = batch;
            posted += seats.iter().filter(|seat| matches!(seat, Seat::Posted)).count();
            block.run(seats);
            backs.push((block, items, seating));
        }
        state.totals.failed_posts += posted as u64;
        self.settle(state);
        for (block, items, seating) in backs {
            let ended = block.end(Answers::Back(seating.by_number(items)));
            wake_each(ended.seats.into_iter().filter_map(|seat| match seat {
                Seat::Asked(waker) => Some(waker),
                Seat::Posted | Seat::Gone => None,
            }));
            ended.unasked.into_iter().for_each(|unasked| self.drop_caught(unasked));
        }
        self.ended.notify_waiters();
        self.watch.notify_waiters();
        if posted > 0 {
            crate::log::warn!(scope = self.scope.name(), batcher = %self.name, posted, "posted items were lost: the scope has ended");
        }
    }

    /// Takes the answer, or registers the task to be woken when the answer is there.
    #[inline(always)]
    pub(super) fn answer(
        &self,
        block: &Block<T, R, E>,
        seat: u32,
        cx: &Context<'_>,
    ) -> Option<Answer<T, R, E>> {
        // A caller that was woken for its answer finds it here.
        block.take(seat).or_else(|| self.answer_or_wait(block, seat, cx.waker()))
    }

    #[inline(never)]
    fn answer_or_wait(&self, block: &Block<T, R, E>, seat: u32, waker: &Waker) -> Option<Answer<T, R, E>> {
        renew(waker, |renewal| {
            loop {
                match block.look(seat, renewal) {
                    Found::Here(answer) => return Some(Some(answer)),
                    Found::Runs => return Some(None),
                    Found::OtherWaker => return None,
                    Found::Waits => {}
                }
                let mut state = self.state();
                // The batch was started in between, so the block has the seats.
                let Some(batch) = state.find(block.number) else { continue };
                let Seat::Asked(kept) = &mut batch.seats[seat as usize] else { return Some(None) };
                return renewal.set(kept).then_some(None);
            }
        })
    }

    /// Leaves a seat. The item is removed if its batch does not run yet, and no other caller waits for it.
    pub(super) fn leave(self: &Arc<Self>, block: &Block<T, R, E>, seat: u32, weight: u64) {
        loop {
            // The returned values are dropped here, without a lock.
            if let Some(was) = block.leave(seat) {
                drop(was);
                return;
            }
            let mut state = self.state();
            if let Some(was) = state.leave(block.number, seat, weight) {
                self.settle(state);
                if let Some(emptied) = &was.2 {
                    // No caller has a seat in this batch. A caller with a seat would otherwise search for the batch
                    // without end.
                    emptied.block.end(Answers::Back(Vec::new()));
                    self.ended.notify_waiters();
                }
                drop(was);
                return;
            }
        }
    }

    /// Drops a value whose drop may panic, in a task that has no caller for that panic.
    pub(super) fn drop_caught<X>(&self, value: X) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            let message = panic_message(&*payload);
            crate::log::error!(scope = self.scope.name(), batcher = %self.name, message, "an answer panicked when it was dropped");
        }
    }
}
