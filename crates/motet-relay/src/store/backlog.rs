//! The number of pending deliveries of each endpoint, in memory: counted at the start, and then changed with the rows of
//! `due`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::StoreError;

#[derive(Debug, Default)]
pub(super) struct Backlogs(Mutex<HashMap<i64, u64>>);

impl Backlogs {
    /// Counts the rows of `due`.
    pub(super) fn count(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut counted = HashMap::new();
        let mut statement =
            connection.prepare("SELECT endpoint_seq, count(*) FROM due GROUP BY endpoint_seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            counted.insert(row.get(0)?, row.get(1)?);
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        Ok(())
    }

    /// Returns the number of pending deliveries of an endpoint.
    pub(super) fn of(&self, endpoint: i64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint).copied().unwrap_or(0)
    }

    fn add(&self, endpoint: i64, change: i64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(endpoint).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            counts.remove(&endpoint);
        }
    }
}

/// The changes of a commit in progress. They apply at once, and are undone if their job or the commit fails.
#[derive(Debug)]
pub(super) struct BacklogChanges<'a> {
    backlogs: &'a Backlogs,
    done: Vec<(i64, i64)>,
}

impl<'a> BacklogChanges<'a> {
    pub(super) fn new(backlogs: &'a Backlogs) -> Self {
        Self { backlogs, done: Vec::new() }
    }

    /// Returns the number of pending deliveries of an endpoint.
    pub(super) fn of(&self, endpoint: i64) -> u64 {
        self.backlogs.of(endpoint)
    }

    /// Changes the number of pending deliveries of an endpoint.
    pub(super) fn add(&mut self, endpoint: i64, change: i64) {
        self.backlogs.add(endpoint, change);
        self.done.push((endpoint, change));
    }

    /// Returns the number of changes; [`back_to`](Self::back_to) undoes the changes after them.
    pub(super) fn mark(&self) -> usize {
        self.done.len()
    }

    pub(super) fn back_to(&mut self, mark: usize) {
        for (endpoint, change) in self.done.drain(mark..).rev() {
            self.backlogs.add(endpoint, -change);
        }
    }
}
