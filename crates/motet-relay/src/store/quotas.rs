//! Quotas of tenants, checked in the writer from counters in memory.
//!
//! A quota refuses an event before it is stored, and never changes an accepted event.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::policy::TenantPolicy;
use super::{StoreError, TenantSeq};
use crate::clock::Millis;

const DAY: Millis = 24 * 60 * 60 * 1_000;

/// After this time the backlog of a tenant may have become smaller.
const BACKLOG_RETRY: Duration = Duration::from_secs(10);

/// A quota that an event or an endpoint exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    EventsPerSecond,
    EventsPerDay,
    Backlog,
    EventBytes,
    Endpoints,
}

/// A refusal because of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaExceeded {
    pub(crate) quota: Quota,
    pub(crate) limit: u64,
    /// When the same request may succeed.
    pub(crate) retry_after: Option<Duration>,
}

/// The counters of all tenants.
#[derive(Debug, Default)]
pub(super) struct QuotaCounters {
    /// The beginning of the current UTC day.
    day: Millis,
    /// Events of the current day.
    today: HashMap<TenantSeq, u64>,
    buckets: HashMap<TenantSeq, Bucket>,
}

/// A token bucket: an event takes a token, and tokens come back at the rate of the policy.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Missing tokens, in thousandths.
    missing: u64,
    at: Millis,
}

impl QuotaCounters {
    /// Counts the events of the current day from the roll-ups.
    pub(super) fn load(connection: &Connection, wall: Millis) -> Result<Self, StoreError> {
        let day = beginning_of_day(wall);
        let sql = "SELECT tenant_seq, sum(accepted) FROM rollups
             WHERE minute >= ?1 AND endpoint_seq = 0 GROUP BY tenant_seq";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map(params![day], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { day, today: rows.collect::<Result<_, _>>()?, buckets: HashMap::new() })
    }

    /// Counts an event of the tenant, or refuses it. `pending` is the number of pending deliveries of the tenant.
    ///
    /// `wall` is the calendar time of the day, and `now` a time that does not jump.
    pub(super) fn admit(
        &mut self,
        tenant: TenantSeq,
        policy: &TenantPolicy,
        bytes: usize,
        pending: impl FnOnce() -> u64,
        wall: Millis,
        now: Millis,
    ) -> Result<(), QuotaExceeded> {
        let refuse = |quota, limit: u64, retry_after| Err(QuotaExceeded { quota, limit, retry_after });
        let day = beginning_of_day(wall);
        if day != self.day {
            self.day = day;
            self.today.clear();
        }
        if let Some(max) = policy.event_bytes_max.filter(|max| bytes as u64 > u64::from(max.get())) {
            return refuse(Quota::EventBytes, max.get().into(), None);
        }
        let today = self.today.get(&tenant).copied().unwrap_or(0);
        if let Some(max) = policy.events_per_day.filter(|max| today >= max.get()) {
            let left = u64::try_from(day + DAY - wall).unwrap_or(0);
            return refuse(Quota::EventsPerDay, max.get(), Some(Duration::from_millis(left)));
        }
        if let Some(max) = policy.backlog_max
            && pending() >= max.get()
        {
            return refuse(Quota::Backlog, max.get(), Some(BACKLOG_RETRY));
        }
        if let Some(rate) = policy.events_per_second {
            let rate = u64::from(rate.get());
            let burst = policy.events_burst.map_or(rate, |burst| burst.get().into());
            let bucket = self.buckets.entry(tenant).or_insert(Bucket { missing: 0, at: now });
            let passed = u64::try_from(now - bucket.at).unwrap_or(0);
            bucket.missing = bucket.missing.saturating_sub(passed.saturating_mul(rate));
            bucket.at = now;
            let after = bucket.missing + 1_000;
            if after > burst * 1_000 {
                let wait = (after - burst * 1_000).div_ceil(rate);
                return refuse(Quota::EventsPerSecond, rate, Some(Duration::from_millis(wait)));
            }
            bucket.missing = after;
        }
        *self.today.entry(tenant).or_default() += 1;
        Ok(())
    }

    /// Takes back the count of an event whose commit failed.
    pub(super) fn undo(&mut self, tenant: TenantSeq) {
        if let Some(today) = self.today.get_mut(&tenant) {
            *today = today.saturating_sub(1);
        }
    }

    /// Removes the counters of a deleted tenant.
    pub(super) fn forget(&mut self, tenant: TenantSeq) {
        self.today.remove(&tenant);
        self.buckets.remove(&tenant);
    }
}

fn beginning_of_day(wall: Millis) -> Millis {
    wall.div_euclid(DAY) * DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantSeq = TenantSeq::DEFAULT;

    fn policy(json: &str) -> TenantPolicy {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn rate_admits_a_burst_and_then_one_event_per_interval() {
        let policy = policy(r#"{"events_per_second": 10, "events_burst": 3}"#);
        let mut counters = QuotaCounters::default();
        let mut admit = |now| counters.admit(TENANT, &policy, 1, || 0, 0, now);
        assert!((0..3).all(|_| admit(1_000).is_ok()));
        let refused = admit(1_000).unwrap_err();
        assert_eq!((refused.quota, refused.limit), (Quota::EventsPerSecond, 10));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
        assert_eq!(admit(1_099).unwrap_err().retry_after, Some(Duration::from_millis(1)));
        assert!(admit(1_100).is_ok() && admit(1_100).is_err());
        assert_eq!((0..9).filter(|_| admit(9_000).is_ok()).count(), 3, "at most a burst");
    }

    #[test]
    fn events_of_a_day_are_counted_from_midnight_utc() {
        let policy = policy(r#"{"events_per_day": 2}"#);
        let mut counters = QuotaCounters::default();
        let mut admit = |wall| counters.admit(TENANT, &policy, 1, || 0, wall, 0);
        assert!(admit(DAY - 2_000).is_ok() && admit(DAY - 2_000).is_ok());
        assert_eq!(admit(DAY - 2_000).unwrap_err().retry_after, Some(Duration::from_secs(2)));
        assert!(admit(DAY).is_ok());
    }

    #[test]
    fn refused_event_is_not_counted() {
        let policy = policy(r#"{"events_per_day": 2, "event_bytes_max": 10, "backlog_max": 5}"#);
        let mut counters = QuotaCounters::default();
        for _ in 0..9 {
            let refused = counters.admit(TENANT, &policy, 11, || 0, 0, 0).unwrap_err();
            assert_eq!((refused.quota, refused.retry_after), (Quota::EventBytes, None));
            let refused = counters.admit(TENANT, &policy, 10, || 5, 0, 0).unwrap_err();
            assert_eq!((refused.quota, refused.limit), (Quota::Backlog, 5));
        }
        assert!((0..2).all(|_| counters.admit(TENANT, &policy, 10, || 4, 0, 0).is_ok()));
        counters.undo(TENANT);
        assert!(counters.admit(TENANT, &policy, 10, || 4, 0, 0).is_ok());
    }
}
