//! The state that the handles of a batcher, its waiting callers and its running batches share.

use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::entering::Key;
use super::run::Running;
use super::slots::{Answer, Answers, BatchSlots, Ended, Failure, Found};
use super::state::{Batch, BatchState, SlotMap, Waiter};
use crate::mutant;
use crate::sync::{Notify, WakeList, catch, renew, wake_each};
use crate::task::core::Level;
use crate::task::{Name, Scope};

pub(super) type BatchCore<T, R, E> = BatchState<T, Waker, Arc<BatchSlots<T, R, E>>>;
type Taken<T, R, E> = Batch<T, Waker, Arc<BatchSlots<T, R, E>>>;

pub(super) struct BatchShared<T, R, E> {
    pub(super) state: Mutex<BatchCore<T, R, E>>,
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

/// Assigns the answers of the items to the slots of the callers.
pub(super) type Spread<R, E> = fn(&SlotMap, Vec<Result<R, E>>) -> Vec<Option<Result<R, E>>>;

/// The work that follows a change of the state, once the lock is released.
struct BatchTodo<T, R, E> {
    batches: Vec<Running<T, R, E>>,
    wake: WakeList,
}

impl<T, R, E> BatchShared<T, R, E> {
    /// No code of the user runs under this lock, so the state of a poisoned lock is sound.
    pub(super) fn state(&self) -> MutexGuard<'_, BatchCore<T, R, E>> {
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
        mut state: MutexGuard<'_, BatchCore<T, R, E>>,
        item: T,
        weight: u64,
        waiter: Waiter<Waker>,
        key: Option<Key>,
    ) -> (Arc<BatchSlots<T, R, E>>, u32) {
        let begin = |number| {
            let deadline = self.max_delay.and_then(|delay| Instant::now().checked_add(delay));
            (Arc::new(BatchSlots::new(number)), deadline)
        };
        let pushed = state.push(item, weight, waiter, begin);
        if let (Some(key), Some(open)) = (key, state.open()) {
            open.record_key(key.hash, key.before);
        }
        self.settle(state);
        pushed
    }

    /// Does the work that follows a change of the state: starts batches, notifies callers in line, starts a watch. All
    /// of it once the lock is released.
    #[inline(always)]
    pub(super) fn settle(self: &Arc<Self>, state: MutexGuard<'_, BatchCore<T, R, E>>) {
        if !state.is_idle() {
            self.settle_slow(state);
        }
    }

    #[inline(never)]
    fn settle_slow(self: &Arc<Self>, mut state: MutexGuard<'_, BatchCore<T, R, E>>) {
        let mut todo = BatchTodo { batches: Vec::new(), wake: WakeList::default() };
        while let Some(batch) = state.next() {
            todo.batches.push(self.take(batch));
        }
        state.offer(&mut todo.wake);
        let unwatched = state.wants_watch();
        state.watched |= unwatched;
        drop(state);
        todo.wake.wake();
        todo.batches.into_iter().for_each(&self.start);
        if unwatched {
            (self.start_watch)(self);
        }
    }

    /// Turns a batch into a running one: under the lock, so that a caller always finds its waker in the state or in the
    /// slots.
    fn take(self: &Arc<Self>, batch: Taken<T, R, E>) -> Running<T, R, E> {
        let Batch { slots, items, waiters, slot_map, .. } = batch;
        slots.run(waiters);
        Running::new(Arc::clone(self), slots, items, slot_map)
    }

    /// Ends a running batch: its callers get their answers, and the next batch may start.
    pub(super) fn end(self: &Arc<Self>, slots: &BatchSlots<T, R, E>, mut answers: Answers<T, R, E>) {
        let whole = match &answers {
            Answers::Each(_) => None,
            Answers::All(failure) => Some(failure.words()),
            Answers::Back(_) => Some("the batch did not run".into()),
        };
        let (scope, batcher) = (self.scope.name(), &self.name);
        match &answers {
            // Its callers get the error; those that do not wait are counted and logged below.
            Answers::All(Failure::Failed(_)) => {
                crate::log::debug!(scope, %batcher, why = whole, "a batch failed")
            }
            _ if whole.is_some() => crate::log::warn!(scope, %batcher, why = whole, "a batch failed"),
            _ => {}
        }
        if mutant!("batch.swap_answers") {
            let each = match &mut answers {
                Answers::Each(each) => each.as_mut_slice(),
                Answers::All(_) | Answers::Back(_) => &mut [],
            };
            let two = each.len().min(2);
            each[..two].reverse();
        }
        let ended = slots.end(answers);
        let failed = |(waiter, answer): &&(Waiter<Waker>, Answer<T, R, E>)| {
            matches!(waiter, Waiter::Posted) && !matches!(answer, Answer::Each(Ok(_)))
        };
        let failed_posts = ended.unasked.iter().filter(failed).count();
        let mut state = self.state();
        state.end(slots.number);
        if mutant!("batch.leak_slot") {
            state.in_flight += usize::from(whole.is_some());
        }
        state.totals.failed_batches += u64::from(whole.is_some());
        state.totals.failed_posts += failed_posts as u64;
        if mutant!("batch.start_no_next") {
            drop(state);
            return self.answer_callers(ended, failed_posts);
        }
        // The next batch first: its handler has something to wait for, the answered callers have not.
        self.settle(state);
        self.answer_callers(ended, failed_posts);
    }

    /// Wakes the callers of a batch that has ended, and drops the answers that no caller takes.
    fn answer_callers(&self, mut ended: Ended<T, R, E>, failed_posts: usize) {
        if mutant!("batch.lost_wake") {
            ended.waiters.pop();
        }
        wake_each(ended.waiters.into_iter().filter_map(|waiter| match waiter {
            Waiter::Asked(waker) => Some(waker),
            Waiter::Posted | Waiter::Gone => None,
        }));
        self.ended.notify_waiters();
        if failed_posts > 0 {
            let (scope, batcher) = (self.scope.name(), &self.name);
            crate::log::warn!(scope, %batcher, failed_posts, "posted items failed; submit items to get their errors");
        }
        for unasked in ended.unasked {
            self.drop_caught(unasked);
        }
    }

    /// Closes the batcher, and hands back all waiting items: the scope has ended, or is cancelled.
    pub(super) fn abandon(self: &Arc<Self>) {
        let mut state = self.state();
        let left = state.abandon();
        let left: Vec<_> = left.into_iter().map(|batch| (Arc::clone(&batch.slots), batch)).collect();
        let mut posted = 0;
        let mut backs = Vec::with_capacity(left.len());
        for (slots, batch) in left {
            let Batch { items, waiters, slot_map, .. } = batch;
            posted += waiters.iter().filter(|waiter| matches!(waiter, Waiter::Posted)).count();
            slots.run(waiters);
            backs.push((slots, items, slot_map));
        }
        state.totals.failed_posts += posted as u64;
        self.settle(state);
        for (slots, items, slot_map) in backs {
            let ended = slots.end(Answers::Back(slot_map.by_number(items)));
            wake_each(ended.waiters.into_iter().filter_map(|waiter| match waiter {
                Waiter::Asked(waker) => Some(waker),
                Waiter::Posted | Waiter::Gone => None,
            }));
            ended.unasked.into_iter().for_each(|unasked| self.drop_caught(unasked));
        }
        self.ended.notify_waiters();
        self.watch.notify_waiters();
        if posted > 0 {
            let (scope, batcher) = (self.scope.name(), &self.name);
            crate::log::warn!(scope, %batcher, posted, "posted items were lost: the scope has ended");
        }
    }

    /// Takes the answer, or registers the task to be woken when the answer is there.
    #[inline(always)]
    pub(super) fn answer(
        &self,
        slots: &BatchSlots<T, R, E>,
        slot: u32,
        cx: &Context<'_>,
    ) -> Option<Answer<T, R, E>> {
        // A caller that was woken for its answer finds it here.
        slots.take(slot).or_else(|| self.answer_or_wait(slots, slot, cx.waker()))
    }

    #[inline(never)]
    fn answer_or_wait(
        &self,
        slots: &BatchSlots<T, R, E>,
        slot: u32,
        waker: &Waker,
    ) -> Option<Answer<T, R, E>> {
        renew(waker, |renewal| {
            loop {
                match slots.look(slot, renewal) {
                    Found::Here(answer) => return Some(Some(answer)),
                    Found::Runs => return Some(None),
                    Found::OtherWaker => return None,
                    Found::Waits => {}
                }
                let mut state = self.state();
                // The batch was started in between, so the slots have the waiters.
                let Some(batch) = state.find(slots.number) else { continue };
                let Waiter::Asked(kept) = &mut batch.waiters[slot as usize] else { return Some(None) };
                return renewal.set(kept).then_some(None);
            }
        })
    }

    /// Leaves a slot. The item is removed if its batch does not run yet, and no other caller waits for it.
    pub(super) fn leave(self: &Arc<Self>, slots: &BatchSlots<T, R, E>, slot: u32, weight: u64) {
        loop {
            // The returned values are dropped here, without a lock.
            if let Some(was) = slots.leave(slot) {
                drop(was);
                return;
            }
            let mut state = self.state();
            if let Some(was) = state.leave(slots.number, slot, weight) {
                self.settle(state);
                if let Some(emptied) = &was.2 {
                    // No caller has a slot in this batch. A caller with a slot would otherwise search for the batch
                    // without end.
                    emptied.slots.end(Answers::Back(Vec::new()));
                    self.ended.notify_waiters();
                }
                drop(was);
                return;
            }
        }
    }

    /// Drops a value whose drop may panic, in a task that has no caller for that panic.
    pub(super) fn drop_caught<X>(&self, value: X) {
        if let Err(message) = catch(|| drop(value)) {
            let (scope, batcher) = (self.scope.name(), &self.name);
            crate::log::error!(scope, %batcher, message, "an answer panicked when it was dropped");
        }
    }
}
