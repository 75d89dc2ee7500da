//! The number of pending deliveries and of dead letters of each endpoint, in memory: counted at the start, and then changed
//! with the rows, so that no page counts rows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::StoreError;

/// The counted deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    /// The rows of `due`.
    Pending,
    Dead,
    /// The rows of `due` that a replay made.
    Replayed,
}

#[derive(Debug, Default)]
pub(super) struct Backlogs(Mutex<HashMap<(Counted, i64), u64>>);

impl Backlogs {
    /// Counts the rows of the store.
    pub(super) fn count(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut counted = HashMap::new();
        for (of, sql) in [
            (Counted::Pending, "SELECT endpoint_seq, count(*) FROM due GROUP BY endpoint_seq"),
            (
                Counted::Replayed,
                "SELECT endpoint_seq, count(*) FROM due WHERE is_replay = 1 GROUP BY endpoint_seq",
            ),
            (
                Counted::Dead,
                "SELECT endpoint_seq, count(*) FROM deliveries INDEXED BY deliveries_dead
                 WHERE state = 2 GROUP BY endpoint_seq",
            ),
        ] {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                counted.insert((of, row.get(0)?), row.get(1)?);
            }
        }
        *self.counts() = counted;
        Ok(())
    }

    /// Returns the number of these deliveries of an endpoint.
    pub(super) fn of(&self, counted: Counted, endpoint: i64) -> u64 {
        self.counts().get(&(counted, endpoint)).copied().unwrap_or(0)
    }

    fn add(&self, counted: Counted, endpoint: i64, change: i64) {
        let mut counts = self.counts();
        let count = counts.entry((counted, endpoint)).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            counts.remove(&(counted, endpoint));
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<(Counted, i64), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The changes of a commit in progress. They apply at once, and are undone if their job or the commit fails.
#[derive(Debug)]
pub(super) struct BacklogChanges<'a> {
    backlogs: &'a Backlogs,
    done: Vec<(Counted, i64, i64)>,
}

impl<'a> BacklogChanges<'a> {
    pub(super) fn new(backlogs: &'a Backlogs) -> Self {
        Self { backlogs, done: Vec::new() }
    }

    /// Returns the number of pending deliveries of an endpoint.
    pub(super) fn of(&self, endpoint: i64) -> u64 {
        self.backlogs.of(Counted::Pending, endpoint)
    }

    /// Returns the number of deliveries of an endpoint that a replay made and that are not attempted yet.
    pub(super) fn replayed(&self, endpoint: i64) -> u64 {
        self.backlogs.of(Counted::Replayed, endpoint)
    }

    /// Forgets the replayed deliveries of an endpoint whose rows are being deleted.
    pub(super) fn forget_replayed(&mut self, endpoint: i64) {
        let replayed = i64::try_from(self.replayed(endpoint)).unwrap_or(i64::MAX);
        self.add(Counted::Replayed, endpoint, -replayed);
    }

    /// Returns the endpoints with fewer replayed deliveries than before.
    pub(super) fn freed(&self) -> impl Iterator<Item = i64> {
        let is_freed =
            |(counted, _, change): &&(Counted, i64, i64)| *counted == Counted::Replayed && *change < 0;
        self.done.iter().filter(is_freed).map(|(_, endpoint, _)| *endpoint)
    }

    /// Changes the number of these deliveries of an endpoint.
    pub(super) fn add(&mut self, counted: Counted, endpoint: i64, change: i64) {
        self.backlogs.add(counted, endpoint, change);
        self.done.push((counted, endpoint, change));
    }

    /// Returns the number of changes; [`back_to`](Self::back_to) undoes the changes after them.
    pub(super) fn mark(&self) -> usize {
        self.done.len()
    }

    pub(super) fn back_to(&mut self, mark: usize) {
        for (counted, endpoint, change) in self.done.drain(mark..).rev() {
            self.backlogs.add(counted, endpoint, -change);
        }
    }
}
