//! Damage of the database: which rows cannot be read, and how relay continues with the other rows.
//!
//! Damage does not heal with time, so relay does not retry because of it. A delivery whose event cannot be read
//! becomes a dead letter; a delivery that cannot be written either is skipped until the next start; a list continues
//! after the rows that cannot be read. Indexes contain no data of their own and are rebuilt, and the due times are filled
//! again from the pending deliveries.
//!
//! While a transaction is open, SQLite refuses further writes after a statement that found damage. So a job that may find
//! damage must not share its commit with others (see `Committer::commit`), and continues after damage only in another job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use super::StoreError;
use super::deliveries::{FILL_DUE, check_due};

/// Minimum time between two rebuilds. A rebuild blocks all commits, and does not help against a damaged table.
const REBUILD_EVERY: Duration = Duration::from_secs(60);

/// A row, or a range of rows, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The number of the row; for a range, the number of the last row in reading order.
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
    /// Endpoints with a secret that cannot be decrypted, and why. The file itself is not damaged.
    undecryptable: BTreeMap<i64, String>,
    /// Deliveries that can be neither attempted nor moved to the dead letters.
    skipped: BTreeSet<i64>,
    rebuilt: Option<Instant>,
    rebuild_next: bool,
}

impl Damage {
    /// Notes damage, and logs it if it is new.
    pub(super) fn note(&self, why: &str) {
        metrics::counter!("relay_store_damage_total").increment(1);
        let mut state = self.state();
        let is_new = state.latest.as_deref() != Some(why);
        if is_new {
            state.latest = Some(why.to_owned());
        }
        drop(state);
        if is_new {
            tracing::error!(why, "the database is damaged; readable events are still delivered");
        }
    }

    /// Notes whether the secrets of an endpoint can be decrypted, and logs it if it is news that they cannot.
    pub(super) fn note_secrets(&self, endpoint: i64, lost: Option<&str>) {
        let mut state = self.state();
        let Some(why) = lost else {
            state.undecryptable.remove(&endpoint);
            return;
        };
        let known = state.undecryptable.insert(endpoint, why.to_owned());
        drop(state);
        if known.as_deref() != Some(why) {
            metrics::counter!("relay_store_damage_total").increment(1);
            tracing::error!(
                endpoint,
                why,
                "the deliveries of an endpoint wait until its secrets are replaced"
            );
        }
    }

    /// Returns the latest damage, if there is any.
    pub(super) fn latest(&self) -> Option<StoreError> {
        let state = self.state();
        let undecryptable = || {
            let (endpoint, why) = state.undecryptable.first_key_value()?;
            Some(StoreError::Undecryptable(format!("endpoint {endpoint}: {why}")))
        };
        state.latest.clone().map(StoreError::Corrupt).or_else(undecryptable)
    }

    /// Returns `true` if a part of the file cannot be read.
    pub(super) fn is_in_file(&self) -> bool {
        self.state().latest.is_some()
    }

    /// Notes that this process does not attempt the delivery any more.
    pub(super) fn skip(&self, delivery: i64) {
        self.state().skipped.insert(delivery);
    }

    pub(super) fn is_skipped(&self, delivery: i64) -> bool {
        self.state().skipped.contains(&delivery)
    }

    /// Requests a rebuild of the indexes. Returns `false` if the last rebuild was less than [`REBUILD_EVERY`] ago.
    pub(super) fn request_rebuild(&self) -> bool {
        let mut state = self.state();
        let may = state.rebuilt.is_none_or(|rebuilt| rebuilt.elapsed() >= REBUILD_EVERY);
        if may {
            state.rebuilt = Some(Instant::now());
            state.rebuild_next = true;
        }
        may
    }

    /// Allows another request at once, because the rebuild failed for a reason that may be temporary.
    pub(super) fn allow_rebuild(&self) {
        self.state().rebuilt = None;
    }

    /// Returns `true` once after each request.
    pub(super) fn take_rebuild_request(&self) -> bool {
        std::mem::take(&mut self.state().rebuild_next)
    }

    fn state(&self) -> MutexGuard<'_, DamageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rebuilds the indexes of deliveries, and `due` if it is damaged, in a transaction of its own.
///
/// `REINDEX`, `DROP INDEX` and `DROP TABLE` read the pages that they free, and fail at a damaged page. So the objects
/// are removed from the schema, and their pages are never used again.
pub(super) fn rebuild_indexes(connection: &Connection) -> Result<(), StoreError> {
    let due_is_damaged = readable(check_due(connection))?.is_err();
    // Fails before the transaction begins if the table is damaged.
    let all =
        "SELECT total(event_seq + endpoint_seq + state + coalesce(due_at, 0)) FROM deliveries NOT INDEXED";
    connection.query_row(all, [], |_| Ok(()))?;
    let objects = if due_is_damaged {
        "(type = 'index' AND tbl_name = 'deliveries') OR name = 'due'"
    } else {
        "type = 'index' AND tbl_name = 'deliveries'"
    };
    let mut statements: Vec<String> = connection
        .prepare(&format!("SELECT sql FROM sqlite_schema WHERE {objects}"))?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if due_is_damaged {
        statements.push(FILL_DUE.to_owned());
    }
    let rebuild = format!(
        "BEGIN IMMEDIATE; PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE {objects};
         PRAGMA writable_schema = RESET; {}; COMMIT",
        statements.join("; ")
    );
    let done = connection.execute_batch(&rebuild);
    if done.is_err() && !connection.is_autocommit() {
        // The file still contains the objects: without the second statement this connection would not use them.
        connection.execute_batch("ROLLBACK; PRAGMA writable_schema = RESET")?;
    }
    Ok(done?)
}

/// Separates damage from other errors: the inner error is the description of the damage.
pub(super) fn readable<T>(read: Result<T, StoreError>) -> Result<Result<T, String>, StoreError> {
    match read {
        Err(StoreError::Corrupt(why)) => Ok(Err(why)),
        other => other.map(Ok),
    }
}

/// Returns the length of a damaged range: the smallest distance that was tried at which `read` finds no damage. `None`
/// if the damage extends to `furthest`.
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

/// Reads up to `limit` rows below `before`, highest first, and continues after rows that cannot be read.
///
/// `read` pushes rows below a number and may end early with an error. Its query must use `seq <= number - 1` and not
/// `seq < number`: SQLite would start the search at the page of `number`, which may be the damaged one.
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

    /// A list of the rows 1 to 100; the rows in `damaged` cannot be read.
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
        assert_eq!(list(&[50], 50, 2), [Ok(49), Ok(48)], "the next page begins after it");
        assert_eq!(list(&[2, 1], 4, 9), [Ok(3), Err(1)]);
    }
}
