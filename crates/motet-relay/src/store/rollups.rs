//! Roll-ups: the counts of a minute, so that no page and no route of statistics counts rows.
//!
//! The jobs of a commit note their work, and the commit adds the sums to one row for each tenant and each endpoint.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{Store, StoreError, TenantSeq};
use crate::clock::Millis;

const MINUTE: Millis = 60_000;

/// Upper bounds of the buckets of attempts by their time; the last bucket has no bound.
const BOUNDS: [Millis; 7] = [10, 30, 100, 300, 1_000, 3_000, 10_000];

/// The row of the tenant's events has this number in place of an endpoint.
const EVENTS: i64 = 0;

/// The node of the embedded store.
const NODE: i64 = 0;

/// A fact to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    Accepted,
    Attempt { is_ok: bool, took_ms: Millis },
    Dead,
    Skipped,
}

/// The notes of a commit in progress.
#[derive(Debug, Default)]
pub(super) struct CommitCounts {
    notes: Vec<(TenantSeq, i64, Note)>,
}

#[derive(Debug, Default)]
struct Sums {
    accepted: i64,
    ok: i64,
    failed: i64,
    dead: i64,
    skipped: i64,
    took_ms: Millis,
    buckets: [i64; BOUNDS.len() + 1],
}

impl CommitCounts {
    /// Notes an accepted event.
    pub(super) fn accepted(&mut self, tenant: TenantSeq) {
        self.notes.push((tenant, EVENTS, Note::Accepted));
    }

    /// Notes an attempt that is not charged to relay.
    pub(super) fn attempt(&mut self, tenant: TenantSeq, endpoint: i64, is_ok: bool, took_ms: Millis) {
        self.notes.push((tenant, endpoint, Note::Attempt { is_ok, took_ms }));
    }

    /// Notes a delivery that became a dead letter.
    pub(super) fn dead(&mut self, tenant: TenantSeq, endpoint: i64) {
        self.notes.push((tenant, endpoint, Note::Dead));
    }

    /// Notes a delivery that was skipped.
    pub(super) fn skipped(&mut self, tenant: TenantSeq, endpoint: i64) {
        self.notes.push((tenant, endpoint, Note::Skipped));
    }

    /// Returns the number of notes; [`back_to`](Self::back_to) removes the notes after them.
    pub(super) fn mark(&self) -> usize {
        self.notes.len()
    }

    pub(super) fn back_to(&mut self, mark: usize) {
        self.notes.truncate(mark);
    }

    /// Adds the sums to the rows of the minute.
    pub(super) fn write(&self, connection: &Connection, wall: Millis) -> Result<(), StoreError> {
        if self.notes.is_empty() {
            return Ok(());
        }
        let mut rows: BTreeMap<(TenantSeq, i64), Sums> = BTreeMap::new();
        for (tenant, endpoint, note) in &self.notes {
            rows.entry((*tenant, *endpoint)).or_default().add(*note);
        }
        let mut upsert = connection.prepare_cached(
            "INSERT INTO rollups (minute, node, tenant_seq, endpoint_seq, accepted, ok, failed, dead, skipped, took_ms,
                 b0, b1, b2, b3, b4, b5, b6, b7)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
             ON CONFLICT (minute, node, tenant_seq, endpoint_seq) DO UPDATE SET
                 accepted = accepted + excluded.accepted, ok = ok + excluded.ok, failed = failed + excluded.failed,
                 dead = dead + excluded.dead, skipped = skipped + excluded.skipped,
                 took_ms = took_ms + excluded.took_ms,
                 b0 = b0 + excluded.b0, b1 = b1 + excluded.b1, b2 = b2 + excluded.b2, b3 = b3 + excluded.b3,
                 b4 = b4 + excluded.b4, b5 = b5 + excluded.b5, b6 = b6 + excluded.b6, b7 = b7 + excluded.b7",
        )?;
        let minute = wall.div_euclid(MINUTE) * MINUTE;
        for ((tenant, endpoint), sums) in rows {
            let [b0, b1, b2, b3, b4, b5, b6, b7] = sums.buckets;
            upsert.execute(params![
                minute,
                NODE,
                tenant,
                endpoint,
                sums.accepted,
                sums.ok,
                sums.failed,
                sums.dead,
                sums.skipped,
                sums.took_ms,
                b0,
                b1,
                b2,
                b3,
                b4,
                b5,
                b6,
                b7
            ])?;
        }
        Ok(())
    }
}

/// The counts of an endpoint in a time, and its backlog now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EndpointStats {
    /// Attempts that succeeded.
    pub(crate) ok: u64,
    /// Attempts that failed, without those charged to relay.
    pub(crate) failed: u64,
    /// Deliveries that became dead letters.
    pub(crate) dead: u64,
    /// Deliveries that were skipped.
    pub(crate) skipped: u64,
    /// Pending deliveries, whenever their events were published.
    pub(crate) pending: u64,
}

impl Store {
    /// Returns the counts of an endpoint of the tenant from the minute of `since` to before `until`.
    pub(crate) async fn endpoint_stats(
        &self,
        tenant: TenantSeq,
        endpoint: i64,
        since: Millis,
        until: Millis,
    ) -> Result<EndpointStats, StoreError> {
        let pending = self.pending_of(endpoint);
        self.shared
            .readers
            .read(move |connection| {
                let sql = "SELECT coalesce(sum(ok), 0), coalesce(sum(failed), 0), coalesce(sum(dead), 0),
                         coalesce(sum(skipped), 0)
                     FROM rollups INDEXED BY rollups_by_endpoint
                     WHERE tenant_seq = ?1 AND endpoint_seq = ?2 AND minute >= ?3 AND minute < ?4";
                let first = since.div_euclid(MINUTE) * MINUTE;
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement.query_row(params![tenant, endpoint, first, until], |row| {
                    let (ok, failed) = (row.get(0)?, row.get(1)?);
                    let (dead, skipped) = (row.get(2)?, row.get(3)?);
                    Ok(EndpointStats { ok, failed, dead, skipped, pending })
                })?)
            })
            .await
    }
}

impl Sums {
    fn add(&mut self, note: Note) {
        match note {
            Note::Accepted => self.accepted += 1,
            Note::Attempt { is_ok, took_ms } => {
                if is_ok {
                    self.ok += 1;
                } else {
                    self.failed += 1;
                }
                self.took_ms += took_ms;
                self.buckets[BOUNDS.partition_point(|bound| *bound < took_ms)] += 1;
            }
            Note::Dead => self.dead += 1,
            Note::Skipped => self.skipped += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_fall_into_the_bucket_that_ends_at_their_time() {
        let mut sums = Sums::default();
        for took_ms in [0, 10, 11, 30, 1_000, 1_001, 10_000, 10_001, Millis::from(i32::MAX)] {
            sums.add(Note::Attempt { is_ok: true, took_ms });
        }
        assert_eq!(sums.buckets, [2, 2, 0, 0, 1, 1, 1, 2]);
        assert_eq!((sums.ok, sums.failed), (9, 0));
    }
}
