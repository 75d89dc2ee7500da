//! The items that were taken from a source: in progress, returned by a worker, or waiting for the reader. Pure state,
//! which receives measured times from its caller.

use std::collections::VecDeque;
use std::time::Duration;

use crate::mutant;

/// The most items that a worker takes at once. With 64, the cost per item is already that of its own work.
pub(super) const MAX_PACE: usize = 64;

/// A worker that processes its items within this time may take twice as many; a worker that needs four times as long takes
/// half. So while the cost of an item is steady, a worker holds items back from other workers for less than a millisecond.
const QUICK: Duration = Duration::from_micros(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Source,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Available,
    /// A worker reads the source.
    InUse,
    Over,
}

/// The next step of a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim<T> {
    /// Process this item, which another worker has returned.
    Item(u64, T),
    /// Take up to this number of items from the source.
    Source(usize),
    Wait,
    Over,
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Results,
    Nothing,
    End,
}

pub(super) struct State<T, R> {
    order: Order,
    workers: usize,
    window: Option<usize>,
    /// The number of items that a worker takes at once: 1 after a function had to wait.
    pace: usize,
    source: Source,
    returned: VecDeque<(u64, T)>,
    /// The number of the next item of the source.
    next: u64,
    /// In the order of the source, from number `first`, with gaps; or in the order of completion.
    results: VecDeque<Option<R>>,
    first: u64,
    /// The number of items that were taken from the source and are not consumed.
    ahead: usize,
    /// The number of items that were taken from the source and are not delivered.
    undone: usize,
    cut_off: bool,
}

impl<T, R> State<T, R> {
    pub(super) fn new(order: Order, workers: usize, window: Option<usize>) -> Self {
        Self {
            order,
            workers,
            window,
            pace: 1,
            source: Source::Available,
            returned: VecDeque::new(),
            next: 0,
            results: VecDeque::new(),
            first: 0,
            ahead: 0,
            undone: 0,
            cut_off: false,
        }
    }

    /// The most items that may be taken and not consumed: for each item that a worker takes at once, one in progress and
    /// one that waits.
    fn limit(&self) -> usize {
        if mutant!("stream.no_window") {
            return usize::MAX;
        }
        self.window.unwrap_or(2 * self.workers * self.pace)
    }

    fn capacity(&self) -> usize {
        self.limit().saturating_sub(self.ahead)
    }

    pub(super) fn claim(&mut self) -> Claim<T> {
        if let Some((number, item)) = self.returned.pop_front() {
            return Claim::Item(number, item);
        }
        match (self.source, self.capacity()) {
            (Source::Available, capacity @ 1..) => {
                self.source = Source::InUse;
                Claim::Source(self.pace.min(capacity))
            }
            (Source::Over, _) if self.undone == 0 => Claim::Over,
            _ => Claim::Wait,
        }
    }

    /// Returns `true` if a worker that asks now has something to do.
    pub(super) fn is_claimable(&self) -> bool {
        !self.returned.is_empty() || (self.source == Source::Available && self.capacity() > 0)
    }

    /// Returns `true` if all results are delivered.
    pub(super) fn is_done(&self) -> bool {
        self.source == Source::Over && self.undone == 0
    }

    /// Puts the source back after `count` items were taken from it. Returns the number of the first of these items.
    pub(super) fn took(&mut self, count: usize, over: bool) -> u64 {
        self.source = if over { Source::Over } else { Source::Available };
        let first = self.next;
        self.next += count as u64;
        self.ahead += count;
        self.undone += count;
        first
    }

    /// Takes items back that a worker has not begun, because the item before them has to wait.
    pub(super) fn give_back(
        &mut self,
        first: u64,
        items: impl DoubleEndedIterator<Item = T> + ExactSizeIterator,
    ) {
        self.pace = 1;
        let mut number = first + items.len() as u64;
        for item in items.rev() {
            number -= 1;
            self.returned.push_front((number, item));
        }
    }

    /// Stores results until the reader collects them.
    pub(super) fn deliver(&mut self, first: u64, results: impl ExactSizeIterator<Item = R>) {
        self.undone -= results.len();
        match self.order {
            Order::Done => self.results.extend(results.map(Some)),
            Order::Source => {
                if mutant!("stream.order_of_ends") {
                    self.results.extend(results.map(Some));
                    return;
                }
                let at = (first - self.first) as usize;
                let end = at + results.len();
                if self.results.len() < end {
                    self.results.resize_with(end, || None);
                }
                for (entry, result) in self.results.range_mut(at..end).zip(results) {
                    *entry = Some(result);
                }
            }
        }
    }

    /// Adapts to the time that a worker took for `count` items, none of which had to wait.
    pub(super) fn timed(&mut self, count: usize, took: Duration) {
        if took >= QUICK * 4 {
            self.pace = (self.pace / 2).max(1);
        } else if took <= QUICK && count >= self.pace {
            // Each worker may use its share of a window.
            let most = self.window.map_or(MAX_PACE, |window| (window / self.workers / 2).clamp(1, MAX_PACE));
            self.pace = (self.pace * 2).min(most);
        }
    }

    /// Notes that a worker was dropped with its items.
    pub(super) fn cut_off(&mut self) {
        self.cut_off = true;
    }

    /// Returns `true` if [`collect`](Self::collect) has a result or the end for the reader.
    pub(super) fn has_news(&self) -> bool {
        matches!(self.results.front(), Some(Some(_))) || self.is_done() || self.cut_off
    }

    /// Moves the next results to the reader. `consumed` is the number of results that the reader has consumed since the
    /// last call, without the first one, which was counted when it was collected.
    pub(super) fn collect(&mut self, consumed: usize, into: &mut VecDeque<R>) -> Found {
        self.ahead -= consumed;
        let before = into.len();
        while let Some(result) = self.results.front_mut().and_then(Option::take) {
            self.results.pop_front();
            self.first += 1;
            into.push_back(result);
        }
        if into.len() > before {
            // The reader yields the first one at once.
            self.ahead -= 1;
            Found::Results
        } else if self.is_done() || self.cut_off {
            Found::End
        } else {
            Found::Nothing
        }
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off && !self.is_done()
    }

    /// Removes all values of users.
    pub(super) fn empty(&mut self) -> (VecDeque<(u64, T)>, VecDeque<Option<R>>) {
        (std::mem::take(&mut self.returned), std::mem::take(&mut self.results))
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { taken: self.next, ahead: self.ahead, undone: self.undone, pace: self.pace }
    }
}

/// The numbers that a stream shows in snapshots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) ahead: usize,
    pub(super) undone: usize,
    pub(super) pace: usize,
}

#[cfg(test)]
mod tests;
