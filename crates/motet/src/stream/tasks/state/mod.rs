//! What is taken from a source, worked on, and waits for the reader: pure, and told how long things took.

use std::collections::VecDeque;
use std::time::Duration;

use crate::mutant;

/// A worker takes at most so many items at once: past 64 the price of an item is its own.
pub(super) const MAX_PACE: usize = 64;

/// A worker that is through within this time may take twice as much; one that takes four times as long takes half. So
/// what one worker holds and another could have is a fraction of a millisecond.
const QUICK: Duration = Duration::from_micros(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Source,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    AtRest,
    /// A worker has it.
    InHand,
    Over,
}

/// What a worker is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim<T> {
    /// Work on this item, which another has given back.
    Item(u64, T),
    /// Take up to so many items from the source.
    Source(usize),
    Wait,
    Over,
}

/// What a reader finds.
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
    /// How many items a worker takes at once: one while work waits for something.
    pace: usize,
    source: Source,
    returned: VecDeque<(u64, T)>,
    /// The number of the next item of the source.
    next: u64,
    /// In the order of the source, from number `first` on, with gaps; or as they are done.
    results: VecDeque<Option<R>>,
    first: u64,
    /// Taken from the source, and not consumed.
    ahead: usize,
    /// Taken from the source, and not delivered.
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
            source: Source::AtRest,
            returned: VecDeque::new(),
            next: 0,
            results: VecDeque::new(),
            first: 0,
            ahead: 0,
            undone: 0,
            cut_off: false,
        }
    }

    /// How many items may be taken and not consumed: one in work and one that waits for each worker, or for each that
    /// it takes at once.
    fn limit(&self) -> usize {
        if mutant!("stream.no_window") {
            return usize::MAX;
        }
        self.window.unwrap_or(2 * self.workers * self.pace)
    }

    fn room(&self) -> usize {
        self.limit().saturating_sub(self.ahead)
    }

    pub(super) fn claim(&mut self) -> Claim<T> {
        if let Some((number, item)) = self.returned.pop_front() {
            return Claim::Item(number, item);
        }
        match (self.source, self.room()) {
            (Source::AtRest, room @ 1..) => {
                self.source = Source::InHand;
                Claim::Source(self.pace.min(room))
            }
            (Source::Over, _) if self.undone == 0 => Claim::Over,
            _ => Claim::Wait,
        }
    }

    /// Asks whether a worker that comes now has something to do.
    pub(super) fn is_claimable(&self) -> bool {
        !self.returned.is_empty() || (self.source == Source::AtRest && self.room() > 0)
    }

    /// Asks whether all is delivered that will be.
    pub(super) fn is_done(&self) -> bool {
        self.source == Source::Over && self.undone == 0
    }

    /// Puts the source back, from which so many items were taken, and numbers these: gives the first number.
    pub(super) fn took(&mut self, count: usize, over: bool) -> u64 {
        self.source = if over { Source::Over } else { Source::AtRest };
        let first = self.next;
        self.next += count as u64;
        self.ahead += count;
        self.undone += count;
        first
    }

    /// Takes back what was taken and not begun: the one before it waits for something.
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

    /// Keeps results until they are collected.
    pub(super) fn deliver(&mut self, first: u64, results: impl ExactSizeIterator<Item = R>) {
        self.undone -= results.len();
        match self.order {
            Order::Done => self.results.extend(results.map(Some)),
            Order::Source if mutant!("stream.order_of_ends") => self.results.extend(results.map(Some)),
            Order::Source => {
                let at = (first - self.first) as usize;
                let end = at + results.len();
                if self.results.len() < end {
                    self.results.resize_with(end, || None);
                }
                for (place, result) in self.results.range_mut(at..end).zip(results) {
                    *place = Some(result);
                }
            }
        }
    }

    /// Learns how long a worker took for so many items, none of which waited for anything.
    pub(super) fn timed(&mut self, count: usize, took: Duration) {
        if took >= QUICK * 4 {
            self.pace = (self.pace / 2).max(1);
        } else if took <= QUICK && count >= self.pace {
            // Of a window, each worker has its part.
            let most = self.window.map_or(MAX_PACE, |window| (window / self.workers / 2).clamp(1, MAX_PACE));
            self.pace = (self.pace * 2).min(most);
        }
    }

    /// A worker has gone before its end, with what it had.
    pub(super) fn cut_off(&mut self) {
        self.cut_off = true;
    }

    /// Asks whether [`collect`](Self::collect) would find something.
    pub(super) fn has_news(&self) -> bool {
        matches!(self.results.front(), Some(Some(_))) || self.is_done() || self.cut_off
    }

    /// Moves what comes next to the reader, who has consumed so many beside the first since the last time.
    pub(super) fn collect(&mut self, consumed: usize, into: &mut VecDeque<R>) -> Found {
        self.ahead -= consumed;
        let before = into.len();
        while let Some(result) = self.results.front_mut().and_then(Option::take) {
            self.results.pop_front();
            self.first += 1;
            into.push_back(result);
        }
        if into.len() > before {
            // The first of them is handed out at once.
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

    /// Takes out all that holds something of a user.
    pub(super) fn empty(&mut self) -> (VecDeque<(u64, T)>, VecDeque<Option<R>>) {
        (std::mem::take(&mut self.returned), std::mem::take(&mut self.results))
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { taken: self.next, ahead: self.ahead, undone: self.undone, pace: self.pace }
    }
}

/// What a stream shows of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) ahead: usize,
    pub(super) undone: usize,
    pub(super) pace: usize,
}

#[cfg(test)]
mod tests;
