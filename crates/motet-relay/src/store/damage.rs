//! What of the database cannot be read, and how the rest goes on.
//!
//! Damage does not heal with time, so nothing is tried again because of it: a delivery whose event cannot be read becomes
//! a dead letter, one that cannot be written either is passed over until the next start, and a list goes on behind what
//! it cannot read. Indexes hold nothing of their own, and are built anew.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use super::StoreError;

/// Building the indexes anew holds up every commit meanwhile, and does not help against a damaged table.
const REBUILD_EVERY: Duration = Duration::from_secs(60);

/// A row, or a range of rows, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The row; of a range, the last one in the order of reading.
    pub(crate) seq: i64,
    pub(crate) why: String,
}

/// The damage that was found since the start.
#[derive(Debug, Default)]
pub(super) struct Damage {
    state: Mutex<DamageState>,
}

#[derive(Debug, Default)]
struct DamageState {
    latest: Option<String>,
    /// Deliveries that can be neither attempted nor given up.
    skipped: BTreeSet<i64>,
    rebuilt: Option<Instant>,
    rebuild_next: bool,
}

impl Damage {
    /// Notes what cannot be read; the log has it when it is new.
    pub(super) fn note(&self, why: &str) {
        metrics::counter!("relay_store_damage_total").increment(1);
        let mut state = self.state();
        let is_new = state.latest.as_deref() != Some(why);
        if is_new {
            state.latest = Some(why.to_owned());
        }
        drop(state);
        if is_new {
            tracing::error!(why, "the database is damaged; what can be read is still delivered");
        }
    }

    /// The latest damage, if there is any.
    pub(super) fn latest(&self) -> Option<StoreError> {
        self.state().latest.clone().map(StoreError::Corrupt)
    }

    /// Takes a delivery for one that this process does not attempt any more.
    pub(super) fn skip(&self, delivery: i64) {
        self.state().skipped.insert(delivery);
    }

    pub(super) fn is_skipped(&self, delivery: i64) -> bool {
        self.state().skipped.contains(&delivery)
    }

    /// Asks for the indexes to be built anew; returns `false` if that was done a short while ago.
    pub(super) fn request_rebuild(&self) -> bool {
        let mut state = self.state();
        let may = state.rebuilt.is_none_or(|rebuilt| rebuilt.elapsed() >= REBUILD_EVERY);
        if may {
            state.rebuilt = Some(Instant::now());
            state.rebuild_next = true;
        }
        may
    }

    /// What stood in the way may pass: the indexes may be asked for again at once.
    pub(super) fn allow_rebuild(&self) {
        self.state().rebuilt = None;
    }

    /// Returns `true` if the indexes are to be built anew now.
    pub(super) fn take_rebuild_request(&self) -> bool {
        std::mem::take(&mut self.state().rebuild_next)
    }

    fn state(&self) -> MutexGuard<'_, DamageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds the indexes of deliveries anew, in a transaction of its own.
///
/// `REINDEX` and `DROP INDEX` read what they clear, and fail at a damaged page. So the indexes are taken out of the
/// schema, and their pages are never used again.
pub(super) fn rebuild_indexes(connection: &Connection) -> Result<(), StoreError> {
    // Nothing is begun where a damaged table makes it fail.
    let all = "SELECT total(event_seq + endpoint_seq + state + due_at) FROM deliveries NOT INDEXED";
    connection.query_row(all, [], |_| Ok(()))?;
    let indexes = "type = 'index' AND tbl_name = 'deliveries'";
    let statements: Vec<String> = connection
        .prepare(&format!("SELECT sql FROM sqlite_schema WHERE {indexes}"))?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let anew = format!(
        "BEGIN IMMEDIATE; PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE {indexes};
         PRAGMA writable_schema = RESET; {}; COMMIT",
        statements.join("; ")
    );
    let done = connection.execute_batch(&anew);
    if done.is_err() && !connection.is_autocommit() {
        // The indexes are in the file still: without the second step this connection would write past them.
        connection.execute_batch("ROLLBACK; PRAGMA writable_schema = RESET")?;
    }
    Ok(done?)
}

/// Sets apart the error that says that what was to be read is damaged.
pub(super) fn readable<T>(read: Result<T, StoreError>) -> Result<Result<T, String>, StoreError> {
    match read {
        Err(StoreError::Corrupt(why)) => Ok(Err(why)),
        other => other.map(Ok),
    }
}

/// Returns how far rows cannot be read: the least distance, of those that were looked at, at which `read` finds no
/// damage. `None` when there is damage up to `furthest`.
pub(super) fn end_of_damage(
    furthest: i64,
    read: impl Fn(i64) -> Result<(), StoreError>,
) -> Result<Option<i64>, StoreError> {
    let (mut bad, mut good) = (0, 1);
    while readable(read(good))?.is_err() {
        if good == furthest {
            return Ok(None);
        }
        bad = good;
        good = good.saturating_mul(2).min(furthest);
    }
    while good - bad > 1 {
        let between = bad + (good - bad) / 2;
        match readable(read(between))? {
            Ok(()) => good = between,
            Err(_) => bad = between,
        }
    }
    Ok(Some(good))
}

/// Reads up to `limit` rows below `before`, the highest first, and goes on behind what cannot be read.
///
/// `read` pushes rows below a number, and may end early with an error. It has to ask for those up to the number before
/// that: a search for less than a number goes to the page where the number would be, which may be the damaged one.
pub(super) fn newest_first<T>(
    damage: &Damage,
    before: i64,
    limit: usize,
    seq: impl Fn(&T) -> i64,
    read: impl Fn(i64, usize, &mut Vec<Result<T, Unreadable>>) -> Result<(), StoreError>,
) -> Result<Vec<Result<T, Unreadable>>, StoreError> {
    let (mut rows, mut before) = (Vec::new(), before);
    loop {
        let missing = limit - rows.len();
        let Err(why) = readable(read(before, missing, &mut rows))? else { return Ok(rows) };
        damage.note(&why);
        before = match rows.last() {
            Some(Ok(row)) => seq(row),
            Some(Err(unreadable)) => unreadable.seq,
            None => before,
        };
        let below = |distance| read(before - distance, 1, &mut Vec::new());
        let Some(distance) = end_of_damage(before.saturating_sub(1).max(1), below)? else {
            rows.push(Err(Unreadable { seq: 0, why }));
            return Ok(rows);
        };
        before -= distance;
        rows.push(Err(Unreadable { seq: before, why }));
        if rows.len() >= limit {
            return Ok(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 1 to 100; those in `damaged` cannot be read.
    fn list(damaged: &[i64], before: i64, limit: usize) -> Vec<Result<i64, i64>> {
        let read = |before: i64, limit: usize, rows: &mut Vec<Result<i64, Unreadable>>| {
            for row in (1..before.min(101)).rev().take(limit) {
                if damaged.contains(&row) {
                    return Err(StoreError::Corrupt("on purpose".to_owned()));
                }
                rows.push(Ok(row));
            }
            Ok(())
        };
        let rows = newest_first(&Damage::default(), before, limit, |row| *row, read).unwrap();
        rows.into_iter().map(|row| row.map_err(|unreadable| unreadable.seq)).collect()
    }

    #[test]
    fn list_continues_past_unreadable_rows() {
        assert_eq!(list(&[98], i64::MAX, 5), [Ok(100), Ok(99), Err(98), Ok(97), Ok(96)]);
        assert_eq!(list(&[98, 97, 96], i64::MAX, 5), [Ok(100), Ok(99), Err(96), Ok(95), Ok(94)]);
        assert_eq!(list(&[100, 99], i64::MAX, 2), [Err(99), Ok(98)]);
        assert_eq!(list(&[50], 50, 2), [Ok(49), Ok(48)], "the next page begins behind it");
        assert_eq!(list(&[2, 1], 4, 9), [Ok(3), Err(1)]);
    }
}
