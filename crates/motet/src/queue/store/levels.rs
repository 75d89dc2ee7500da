use std::collections::VecDeque;

use super::priority::Placed;
use super::spare;

/// The number of levels. Each item is compared with the rank of every level; 16 comparisons still cost less than one
/// level of a heap.
const MOST: usize = 16;

/// The items of a few ranks, in one deque per rank.
#[derive(Debug)]
pub(super) struct Levels<T> {
    /// The number of levels in use.
    used: usize,
    /// The ranks in use, from the highest to the lowest, so that the level that is emptied first is at the end.
    ranks: [i64; MOST],
    /// The deques of the levels: those in use are not empty, the others are.
    items: [VecDeque<Placed<T>>; MOST],
}

impl<T> Levels<T> {
    pub(super) fn new() -> Self {
        Self { used: 0, ranks: [0; MOST], items: Default::default() }
    }

    /// Adds an entry behind the entries of its rank. Returns it if all levels are in use for other ranks.
    #[inline]
    pub(super) fn push_back(&mut self, last: Placed<T>) -> Result<(), Placed<T>> {
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
    pub(super) fn push_front(&mut self, first: Placed<T>) -> Result<(), Placed<T>> {
        match self.level(first.entry.rank) {
            Some(level) => {
                level.push_front(first);
                Ok(())
            }
            None => Err(first),
        }
    }

    pub(super) fn first(&self) -> Option<&Placed<T>> {
        self.items[self.used.checked_sub(1)?].front()
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Placed<T>> {
        let level = &mut self.items[self.used.checked_sub(1)?];
        let first = level.pop_front();
        if let Some(enough) = spare(level.len(), level.capacity()) {
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
    pub(super) fn capacity(&self) -> usize {
        self.items.iter().map(VecDeque::capacity).sum()
    }
}
