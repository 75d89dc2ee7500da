//! The events that running jobs may still send, so that retention keeps them.

use std::collections::HashMap;

use rusqlite::Connection;

use super::{ReplayFilter, ReplayMode};
use crate::clock::Millis;
use crate::store::{StoreError, TenantSeq, policy};

/// The rows that a walk has not reached.
#[derive(Debug, Clone)]
struct Walk {
    after: i64,
    upto: i64,
    filter: ReplayFilter,
}

impl Walk {
    fn has(&self, position: i64, published_at: Millis) -> bool {
        let ReplayFilter { since, until, .. } = self.filter;
        position > self.after
            && position <= self.upto
            && since.is_none_or(|since| published_at >= since)
            && until.is_none_or(|until| published_at < until)
    }
}

/// The rows that the running jobs of a tenant have not reached.
#[derive(Debug, Default)]
pub(in crate::store) struct ReplayReach {
    /// Walks over events, one for each job.
    events: Vec<Walk>,
    /// Walks over the deliveries of an endpoint.
    deliveries: HashMap<i64, Vec<Walk>>,
}

impl ReplayReach {
    /// Reads the running jobs of a tenant.
    pub(in crate::store) fn of(connection: &Connection, tenant: TenantSeq) -> Result<Self, StoreError> {
        let sql = "SELECT r.seq, r.mode, r.filter, r.last_event, r.last_delivery, p.endpoint_seq, p.cursor
             FROM replays r INDEXED BY replays_running CROSS JOIN replay_parts p ON p.replay_seq = r.seq
             WHERE r.tenant_seq = ?1 AND r.state = 'running' AND p.is_finished = 0";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([tenant])?;
        let mut reach = Self::default();
        let mut of_events: HashMap<i64, Walk> = HashMap::new();
        while let Some(row) = rows.next()? {
            let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
            let mode = ReplayMode::read(text(1)?)?;
            let (replay, after): (i64, i64) = (row.get(0)?, row.get(6)?);
            if mode.walks_events() {
                // The part that is furthest behind is enough.
                if let Some(known) = of_events.get_mut(&replay) {
                    known.after = known.after.min(after);
                    continue;
                }
                let filter = policy::parse(text(2)?)?;
                of_events.insert(replay, Walk { after, upto: row.get(3)?, filter });
            } else {
                let walk = Walk { after, upto: row.get(4)?, filter: policy::parse(text(2)?)? };
                reach.deliveries.entry(row.get(5)?).or_default().push(walk);
            }
        }
        reach.events.extend(of_events.into_values());
        Ok(reach)
    }

    /// Returns `true` if a job may still send the event to an endpoint of its walk over events.
    pub(in crate::store) fn has_event(&self, event: i64, published_at: Millis) -> bool {
        self.events.iter().any(|walk| walk.has(event, published_at))
    }

    /// Returns `true` if a job may still send this delivery of an event.
    pub(in crate::store) fn has_delivery(&self, endpoint: i64, delivery: i64, published_at: Millis) -> bool {
        let walks = self.deliveries.get(&endpoint);
        walks.is_some_and(|walks| walks.iter().any(|walk| walk.has(delivery, published_at)))
    }
}
