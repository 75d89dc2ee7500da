//! What a batcher holds, as a pure state: nothing here waits, and `now` is an argument.
//!
//! `T` is an item, `W` tells whoever waits, `B` is where the answers of a batch will be.

mod batch;
mod line;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::mutant;

pub(crate) use batch::{Batch, Seat, Seating};
pub(crate) use line::Line;
pub(crate) use window::Window;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_items: usize,
    pub(crate) max_weight: u64,
    pub(crate) max_in_flight: usize,
    pub(crate) max_waiting: usize,
    pub(crate) max_in_line: usize,
    pub(crate) eager: bool,
}

/// What there has been so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) items: u64,
    pub(crate) batches: u64,
    pub(crate) failed_batches: u64,
    pub(crate) failed_posts: u64,
}

#[derive(Debug)]
pub(crate) struct State<T, W, B> {
    limits: Limits,
    /// The batch that is filled.
    open: Option<Batch<T, W, B>>,
    /// Those that reached a limit, and wait for room in flight.
    full: VecDeque<Batch<T, W, B>>,
    /// Who waits until there is a place for an item.
    pub(crate) line: Line<W>,
    /// Items in `open` and `full`.
    waiting: usize,
    in_flight: usize,
    closed: bool,
    pub(crate) window: Window,
    pub(crate) totals: Totals,
    /// Whether somebody sees to the deadline of the open batch, and to the end of the scope.
    pub(crate) watched: bool,
}

/// What whoever brings an item finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Full,
    Closed,
}

/// What is left to see to once a deadline has passed, or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing: no batch is open, or the one that is goes as soon as there is room in flight.
    Done,
    /// A batch is open, until then at the latest.
    Until(Option<Instant>),
}

impl<T, W, B: Clone> State<T, W, B> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: None,
            full: VecDeque::new(),
            line: Line::new(),
            waiting: 0,
            in_flight: 0,
            closed: false,
            window: Window::default(),
            totals: Totals::default(),
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

    /// Whether somebody is to begin to watch. A batch that is due goes with the next end of one in flight, which
    /// also keeps the scope from its end.
    pub(crate) fn wants_watch(&self) -> bool {
        !self.watched && self.open.as_ref().is_some_and(|open| !open.due)
    }

    /// Asks for a place, with one's own in the line if one has it. Nobody overtakes whoever waits.
    pub(crate) fn door(&self, place: Option<usize>) -> Door {
        let may = match place {
            Some(place) => self.line.is_offered(place),
            None => self.line.len() == 0 && self.free() > 0,
        };
        match (self.closed, may) {
            (true, _) => Door::Closed,
            (false, true) => Door::Open,
            (false, false) => Door::Full,
        }
    }

    /// Asks whether one more may wait for a place.
    pub(crate) fn has_room_in_line(&self) -> bool {
        self.line.len() + self.line.offered() < self.limits.max_in_line || mutant!("batch.line_unbounded")
    }

    /// Places for items that are not kept for anybody.
    fn free(&self) -> usize {
        self.limits.max_waiting.saturating_sub(self.waiting + self.line.offered())
    }

    /// Tells those in the line for whom there is a place now; all of them when it is closed.
    pub(crate) fn offer(&mut self, told: &mut Vec<W>) {
        let free = if self.closed { usize::MAX } else { self.free() };
        if free > 0 {
            self.line.offer(free, told);
        }
    }

    /// Adds an item to the open batch; `begin` opens one. Gives the batch's block and the seat.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        item: T,
        weight: u64,
        seat: Seat<W>,
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
        let at = open.push(item, weight, seat);
        let block = open.block.clone();
        self.waiting += 1;
        self.totals.items += 1;
        if open.items.len() >= self.limits.max_items || open.weight >= self.limits.max_weight {
            self.fill();
        }
        (block, at)
    }

    #[inline(never)]
    fn begin<'a>(
        open: &'a mut Option<Batch<T, W, B>>,
        window: &mut Window,
        limits: Limits,
        begin: impl FnOnce(u64) -> (B, Option<Instant>),
    ) -> &'a mut Batch<T, W, B> {
        let number = window.begin();
        let (block, deadline) = begin(number);
        // Not more than it may wait for: a huge limit costs nothing.
        let room = limits.max_items.min(64);
        open.insert(Batch::new(number, block, deadline, room))
    }

    /// The open batch, which somebody may join.
    pub(crate) fn open(&mut self) -> Option<&mut Batch<T, W, B>> {
        self.open.as_mut()
    }

    fn fill(&mut self) {
        self.full.extend(self.open.take());
    }

    /// The batch of this number, unless it was taken.
    pub(crate) fn find(&mut self, number: u64) -> Option<&mut Batch<T, W, B>> {
        let at = self.full_at(number);
        let open = self.open.as_mut().filter(|open| open.number == number);
        open.or_else(|| self.full.get_mut(at?))
    }

    /// Where a batch is among the full ones, which are in the order of their numbers.
    fn full_at(&self, number: u64) -> Option<usize> {
        self.full.binary_search_by_key(&number, |batch| batch.number).ok()
    }

    /// Takes one off its seat, with its item; `None` if the batch was taken. What comes back is to be dropped
    /// outside of the lock.
    #[allow(
        clippy::type_complexity,
        reason = "what was in the seat, and the block of a batch that is empty now"
    )]
    pub(crate) fn leave(
        &mut self,
        number: u64,
        seat: u32,
        weight: u64,
    ) -> Option<(Option<T>, Seat<W>, Option<Batch<T, W, B>>)> {
        // What is removed leaves its seat behind, which must not add up for as long as a batch is open.
        let most = self.limits.max_items.max(64);
        let batch = self.find(number)?;
        let (item, was) = batch.leave(seat, weight);
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

    /// Whether the last change leaves nothing to do: no batch to go, nobody in the line, nobody to begin to watch.
    ///
    /// So it is after most items, and asked before all else: what is done otherwise is a tenth of what an item costs.
    pub(crate) fn is_at_rest(&self) -> bool {
        let open_waits = |open: &Batch<T, W, B>| self.watched && !open.due && !self.limits.eager;
        self.full.is_empty() && self.line.len() == 0 && self.open.as_ref().is_none_or(open_waits)
    }

    /// Takes the next batch that may go now.
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

    /// Has the open batch go as soon as there is room in flight. Gives how many batches have to end until all
    /// that is here has its answer.
    pub(crate) fn flush(&mut self) -> u64 {
        if let Some(open) = &mut self.open {
            open.due = true;
        }
        self.window.begun()
    }

    /// Takes no more items; those that are here go.
    pub(crate) fn close(&mut self) -> u64 {
        self.closed = true;
        if mutant!("batch.close_forgets_open") {
            return self.window.begun() - u64::from(self.open.is_some());
        }
        self.flush()
    }

    /// Looks at the deadline of the open batch.
    pub(crate) fn watch(&mut self, now: Instant) -> Watch {
        let Some(open) = &mut self.open else { return Watch::Done };
        open.due |= open.deadline.is_some_and(|deadline| deadline <= now);
        if open.due { Watch::Done } else { Watch::Until(open.deadline) }
    }

    /// A batch that was taken has ended.
    pub(crate) fn end(&mut self, number: u64) {
        self.in_flight -= 1;
        self.window.end(number);
    }

    /// Closes it, and takes out all that is here: nothing of it will run.
    pub(crate) fn abandon(&mut self) -> Vec<Batch<T, W, B>> {
        self.closed = true;
        self.fill();
        self.waiting = 0;
        let left: Vec<_> = self.full.drain(..).collect();
        left.iter().for_each(|batch| self.window.end(batch.number));
        left
    }
}
