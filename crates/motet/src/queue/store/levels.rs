use std::collections::VecDeque;

use super::priority::Placed;
use super::spare;

/// A comparison of ranks a level, all of them at each item: 16 still cost less than one level of a heap.
const MOST: usize = 16;

/// The items of a few ranks, a deque for each.
#[derive(Debug)]
pub(super) struct Levels<T> {
    /// How many ranks there are.
    used: usize,
    /// From the highest to the lowest, so that the one which is emptied first is at the end.
    ranks: [i64; MOST],
    /// None of those in use is empty; those past them are.
    items: [VecDeque<Placed<T>>; MOST],
}

impl<T> Levels<T> {
    pub(super) fn new() -> Self {
        Self { used: 0, ranks: [0; MOST], items: Default::default() }
    }

    /// Takes it in behind those of its rank; gives it back if all levels are in use for others.
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

    /// Takes it in before those of its rank; gives it back if all levels are in use for others.
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

    /// The level of the rank; a new one if there is one left.
    #[inline]
    fn level(&mut self, rank: i64) -> Option<&mut VecDeque<Placed<T>>> {
        // All are compared and none is searched for: a sum needs no branch.
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
