use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use super::{Entry, Store, shrink_target};
use crate::mutant;

/// Items by rank, the lowest first; first in, first out within a rank.
///
/// A program mostly uses few ranks. Each of up to 16 ranks has a level: a deque of its own, where adding and removing
/// an item take constant time. Items of further ranks go to a heap, and the next item is the better one of the two.
/// With eight ranks this costs a quarter of a heap alone at 1 024 items (20 ns instead of 80 for in and out); with as
/// many ranks as items it costs a fifth more.
#[derive(Debug)]
pub(crate) struct Priority<T> {
    levels: Levels<T>,
    rest: BinaryHeap<Placed<T>>,
    /// The sequence number after the last one.
    end: i64,
    /// The sequence number of the first entry.
    front: i64,
}

/// An entry and its sequence number among the entries of its rank.
///
/// A rank may be in the levels and in the heap, since it has a level only while one is free for it: the sequence
/// numbers order its entries.
#[derive(Debug)]
struct Placed<T> {
    sequence: i64,
    entry: Entry<T>,
}

impl<T> Priority<T> {
    pub(crate) fn new() -> Self {
        Self { levels: Levels::new(), rest: BinaryHeap::new(), end: 0, front: 0 }
    }

    fn pop_rest(&mut self) -> Option<Placed<T>> {
        let first = self.rest.pop();
        if let Some(enough) = shrink_target(self.rest.len(), self.rest.capacity()) {
            self.rest.shrink_to(enough);
        }
        first
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.levels.capacity() + self.rest.capacity()
    }
}

impl<T: Send> Store<T> for Priority<T> {
    fn push(&mut self, entry: Entry<T>) {
        let last = Placed { sequence: self.end, entry };
        self.end += 1;
        if let Err(last) = self.levels.push_back(last) {
            self.rest.push(last);
        }
    }

    fn push_front(&mut self, entry: Entry<T>) {
        if mutant!("store.return_behind") {
            return self.push(entry);
        }
        self.front -= 1;
        let first = Placed { sequence: self.front, entry };
        if let Err(first) = self.levels.push_front(first) {
            self.rest.push(first);
        }
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let first = match (self.levels.first(), self.rest.peek()) {
            (Some(level), Some(rest)) if rest.key() < level.key() => self.pop_rest(),
            (Some(_), _) => self.levels.pop(),
            (None, _) => self.pop_rest(),
        };
        first.map(|placed| placed.entry)
    }
}

impl<T> Placed<T> {
    /// Orders by rank, then by sequence number; the lowest key is the first. It is one number, which is compared
    /// without a branch.
    fn key(&self) -> i128 {
        // The sign of the sequence number is flipped, so that it keeps its order as the unsigned lower half.
        (i128::from(self.entry.rank) << 64) | i128::from(self.sequence as u64 ^ (1 << 63))
    }
}

impl<T> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Placed<T> {}

impl<T> PartialOrd for Placed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Placed<T> {
    /// The entry with the lowest key is the greatest, because the heap pops the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// The number of levels. Each item is compared with the rank of every level; 16 comparisons still cost less than one
/// level of a heap.
const MOST: usize = 16;

/// The items of a few ranks, in one deque per rank.
#[derive(Debug)]
struct Levels<T> {
    /// The number of levels in use.
    used: usize,
    /// The ranks in use, from the highest to the lowest, so that the level that is emptied first is at the end.
    ranks: [i64; MOST],
    /// The deques of the levels: those in use are not empty, the others are.
    items: [VecDeque<Placed<T>>; MOST],
}

impl<T> Levels<T> {
    fn new() -> Self {
        Self { used: 0, ranks: [0; MOST], items: Default::default() }
    }

    /// Adds an entry behind the entries of its rank. Returns it if all levels are in use for other ranks.
    #[inline]
    fn push_back(&mut self, last: Placed<T>) -> Result<(), Placed<T>> {
        match self.level(last.entry.rank) {
            Some(level) => {
                level.push_back(last);
                Ok(())
            }
            None => Err(last),
        }
    }

    /// Adds an entry before the entries of its rank. Returns it if all levels are in use for other ranks.
    #[inline]
    fn push_front(&mut self, first: Placed<T>) -> Result<(), Placed<T>> {
        match self.level(first.entry.rank) {
            Some(level) => {
                level.push_front(first);
                Ok(())
            }
            None => Err(first),
        }
    }

    fn first(&self) -> Option<&Placed<T>> {
        self.items[self.used.checked_sub(1)?].front()
    }

    #[inline]
    fn pop(&mut self) -> Option<Placed<T>> {
        let level = &mut self.items[self.used.checked_sub(1)?];
        let first = level.pop_front();
        if let Some(enough) = shrink_target(level.len(), level.capacity()) {
            level.shrink_to(enough);
        }
        if level.is_empty() {
            self.used -= 1;
        }
        first
    }

    /// The level of `rank`: a new one if the rank has none and one is free.
    #[inline]
    fn level(&mut self, rank: i64) -> Option<&mut VecDeque<Placed<T>>> {
        // All ranks are compared instead of a search: a sum needs no branch.
        let at: usize = self.ranks[..self.used].iter().map(|other| usize::from(*other > rank)).sum();
        if at == self.used || self.ranks[at] != rank {
            if self.used == MOST {
                return None;
            }
            self.ranks.copy_within(at..self.used, at + 1);
            self.items[at..=self.used].rotate_right(1);
            self.ranks[at] = rank;
            self.used += 1;
        }
        Some(&mut self.items[at])
    }

    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.items.iter().map(VecDeque::capacity).sum()
    }
}
