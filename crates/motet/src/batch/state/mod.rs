//! The state of a batcher as a pure state machine: nothing here waits, and `now` is an argument.
//!
//! `T` is an item, `W` is the waker of a caller, `B` is the slots in which the answers of a batch will be.

mod batch;
mod line;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::mutant;

pub(crate) use batch::{Batch, SlotMap, Waiter};
pub(crate) use line::WaitLine;

#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) max_items: usize,
    pub(crate) max_weight: u64,
    pub(crate) max_in_flight: usize,
    pub(crate) max_waiting: usize,
    pub(crate) max_in_line: usize,
    pub(crate) eager: bool,
}

/// The totals so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BatchTotals {
    pub(crate) items: u64,
    pub(crate) batches: u64,
    pub(crate) failed_batches: u64,
    pub(crate) failed_posts: u64,
}

#[derive(Debug)]
pub(crate) struct BatchState<T, W, B> {
    limits: BatchLimits,
    /// The batch to which items are added.
    open: Option<Batch<T, W, B>>,
    /// The batches that reached a limit and wait to be in flight.
    full: VecDeque<Batch<T, W, B>>,
    /// The callers that wait for capacity for an item.
    pub(crate) line: WaitLine<W>,
    /// The number of items in `open` and `full`.
    waiting: usize,
    pub(crate) in_flight: usize,
    closed: bool,
    pub(crate) window: BatchWindow,
    pub(crate) totals: BatchTotals,
    /// `true` if a watch handles the deadline of the open batch and the end of the scope.
    pub(crate) watched: bool,
}

/// The answer to a caller that adds an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Open,
    Full,
    Closed,
}

/// The remaining work of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// No work: no batch is open, or the open batch runs as soon as it may be in flight.
    Done,
    /// A batch is open, with this deadline.
    Until(Option<Instant>),
}

impl<T, W, B: Clone> BatchState<T, W, B> {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            open: None,
            full: VecDeque::new(),
            line: WaitLine::new(),
            waiting: 0,
            in_flight: 0,
            closed: false,
            window: BatchWindow::default(),
            totals: BatchTotals::default(),
            watched: false,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns `true` if a watch must be started. A batch that is due runs after the next end of a batch in flight,
    /// which also keeps the scope from ending.
    pub(crate) fn wants_watch(&self) -> bool {
        !self.watched && self.open.as_ref().is_some_and(|open| !open.due)
    }

    /// Checks whether an item may be added; `line_key` is the caller's key in the line, if it has one. No caller overtakes
    /// a waiting one.
    pub(crate) fn admission(&self, line_key: Option<usize>) -> Admission {
        let may = match line_key {
            Some(line_key) => self.line.is_offered(line_key),
            None => self.line.len() == 0 && self.free() > 0,
        };
        match (self.closed, may) {
            (true, _) => Admission::Closed,
            (false, true) => Admission::Open,
            (false, false) => Admission::Full,
        }
    }

    /// Returns `true` if one more caller may wait for capacity.
    pub(crate) fn may_join_line(&self) -> bool {
        if mutant!("batch.line_unbounded") {
            return true;
        }
        self.line.len() + self.line.offered() < self.limits.max_in_line
    }

    /// The capacity that is not reserved for a caller.
    fn free(&self) -> usize {
        self.limits.max_waiting.saturating_sub(self.waiting + self.line.offered())
    }

    /// Offers free capacity to callers in line; when closed, to all of them.
    pub(crate) fn offer(&mut self, wakers: &mut impl Extend<W>) {
        let free = if self.closed { usize::MAX } else { self.free() };
        if free > 0 {
            self.line.offer(free, wakers);
        }
    }

    /// Adds an item to the open batch; `begin` opens one. Returns the slots of the batch, and the slot.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        item: T,
        weight: u64,
        waiter: Waiter<W>,
        begin: impl FnOnce(u64) -> (B, Option<Instant>),
    ) -> (B, u32) {
        if self.open.as_ref().is_some_and(|open| self.limits.max_weight - open.weight < weight) {
            self.fill();
        }
        let open = match &mut self.open {
            Some(open) => {
                if mutant!("batch.timer_per_item") {
                    open.deadline = begin(open.number).1;
                }
                open
            }
            none => Self::begin(none, &mut self.window, self.limits, begin),
        };
        let at = open.push(item, weight, waiter);
        let slots = open.slots.clone();
        self.waiting += 1;
        self.totals.items += 1;
        if open.items.len() >= self.limits.max_items || open.weight >= self.limits.max_weight {
            self.fill();
        }
        (slots, at)
    }

    #[inline(never)]
    fn begin<'a>(
        open: &'a mut Option<Batch<T, W, B>>,
        window: &mut BatchWindow,
        limits: BatchLimits,
        begin: impl FnOnce(u64) -> (B, Option<Instant>),
    ) -> &'a mut Batch<T, W, B> {
        let number = window.begin();
        let (slots, deadline) = begin(number);
        // At most 64, so that a huge limit allocates nothing.
        let capacity = limits.max_items.min(64);
        open.insert(Batch::new(number, slots, deadline, capacity))
    }

    /// The open batch, which callers may join.
    pub(crate) fn open(&mut self) -> Option<&mut Batch<T, W, B>> {
        self.open.as_mut()
    }

    fn fill(&mut self) {
        self.full.extend(self.open.take());
    }

    /// The batch of this number, unless it runs.
    pub(crate) fn find(&mut self, number: u64) -> Option<&mut Batch<T, W, B>> {
        let at = self.full_at(number);
        let open = self.open.as_mut().filter(|open| open.number == number);
        open.or_else(|| self.full.get_mut(at?))
    }

    /// The index of a batch among the full ones, which are in the order of their numbers.
    fn full_at(&self, number: u64) -> Option<usize> {
        self.full.binary_search_by_key(&number, |batch| batch.number).ok()
    }

    /// Removes a caller from its slot, with its item; `None` if the batch runs. The caller drops the returned values
    /// outside of the lock.
    #[allow(clippy::type_complexity, reason = "the content of the slot, and the batch if it is empty now")]
    pub(crate) fn leave(
        &mut self,
        number: u64,
        slot: u32,
        weight: u64,
    ) -> Option<(Option<T>, Waiter<W>, Option<Batch<T, W, B>>)> {
        // A removed item leaves its slot behind. These slots must not accumulate for as long as a batch is open.
        let most = self.limits.max_items.max(64);
        let batch = self.find(number)?;
        let (item, was) = batch.leave(slot, weight);
        let (empty, worn) = (batch.items.is_empty(), batch.removed >= most);
        self.waiting -= usize::from(item.is_some());
        let mut emptied = None;
        if empty {
            emptied = match self.open.take_if(|open| open.number == number) {
                None => self.full_at(number).and_then(|at| self.full.remove(at)),
                open => open,
            };
            self.window.end(number);
        } else if worn && self.open.as_ref().is_some_and(|open| open.number == number) {
            self.fill();
        }
        Some((item, was, emptied))
    }

    /// Returns `true` if the last change leaves no work: no batch to start, no caller in line, no watch to start.
    ///
    /// This is the case after most items, and checked first: the other checks cost a tenth of the whole cost of an
    /// item.
    pub(crate) fn is_idle(&self) -> bool {
        let open_waits = |open: &Batch<T, W, B>| self.watched && !open.due && !self.limits.eager;
        self.full.is_empty() && self.line.len() == 0 && self.open.as_ref().is_none_or(open_waits)
    }

    /// Takes the next batch that may run now.
    pub(crate) fn next(&mut self) -> Option<Batch<T, W, B>> {
        if self.in_flight >= self.limits.max_in_flight {
            return None;
        }
        let at_once = self.limits.eager && self.in_flight == 0;
        let batch = match self.full.pop_front() {
            None => self.open.take_if(|open| open.due || at_once)?,
            Some(full) => full,
        };
        self.in_flight += 1;
        self.waiting -= batch.items.len();
        self.totals.batches += 1;
        Some(batch)
    }

    /// Marks the open batch as due. Returns the number of batches that have to end until all waiting items have their
    /// answers.
    pub(crate) fn flush(&mut self) -> u64 {
        if let Some(open) = &mut self.open {
            open.due = true;
        }
        self.window.begun()
    }

    /// Closes the batcher; waiting items run.
    pub(crate) fn close(&mut self) -> u64 {
        self.closed = true;
        if mutant!("batch.close_forgets_open") {
            return self.window.begun() - u64::from(self.open.is_some());
        }
        self.flush()
    }

    /// Checks the deadline of the open batch.
    pub(crate) fn watch(&mut self, now: Instant) -> Watch {
        let Some(open) = &mut self.open else { return Watch::Done };
        open.due |= open.deadline.is_some_and(|deadline| deadline <= now);
        if open.due { Watch::Done } else { Watch::Until(open.deadline) }
    }

    /// Notes that a running batch has ended.
    pub(crate) fn end(&mut self, number: u64) {
        self.in_flight -= 1;
        self.window.end(number);
    }

    /// Closes the batcher, and removes all waiting batches, which will not run.
    pub(crate) fn abandon(&mut self) -> Vec<Batch<T, W, B>> {
        self.closed = true;
        self.fill();
        self.waiting = 0;
        let left: Vec<_> = self.full.drain(..).collect();
        left.iter().for_each(|batch| self.window.end(batch.number));
        left
    }
}

/// Numbers batches, and tracks up to which number all have ended.
#[derive(Debug, Default)]
pub(crate) struct BatchWindow {
    begun: u64,
    /// The batches that have not ended, in order. A batch that hangs costs one entry, whatever the number of batches
    /// after it.
    open: VecDeque<u64>,
}

impl BatchWindow {
    pub(crate) fn begin(&mut self) -> u64 {
        let number = self.begun;
        self.begun += 1;
        self.open.push_back(number);
        number
    }

    /// The number of batches that were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    pub(crate) fn end(&mut self, number: u64) {
        if let Ok(at) = self.open.binary_search(&number) {
            self.open.remove(at);
        }
    }

    /// Returns `true` if the first `count` batches have ended.
    pub(crate) fn have_ended(&self, count: u64) -> bool {
        *self.open.front().unwrap_or(&self.begun) >= count
    }

    #[cfg(test)]
    pub(crate) fn footprint(&self) -> usize {
        self.open.capacity()
    }
}
