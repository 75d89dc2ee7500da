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
    Keys,
}

/// A refusal because of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaExceeded {
    pub(crate) quota: Quota,
    pub(crate) limit: u64,
    /// When the same request may succeed.
    pub(crate) retry_after: Option<Duration>,
}

/// A count that can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaUse {
    /// A token of the rate.
    Request(TenantSeq),
    /// An event of the day.
    Event(TenantSeq),
}

/// Checks that the tenant may have another pending delivery.
pub(super) fn check_backlog(
    policy: &TenantPolicy,
    pending: impl FnOnce() -> u64,
) -> Result<(), QuotaExceeded> {
    match policy.backlog_max {
        Some(max) if pending() >= max.get() => {
            Err(QuotaExceeded { quota: Quota::Backlog, limit: max.get(), retry_after: Some(BACKLOG_RETRY) })
        }
        _ => Ok(()),
    }
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

/// A token of a bucket, whose tokens are counted in thousandths.
const TOKEN: u64 = 1_000;

/// A token bucket: a request takes a token, and tokens come back at the rate of the policy.
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
             WHERE minute >= ?1 AND minute < ?2 AND endpoint_seq = 0 GROUP BY tenant_seq";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map(params![day, day + DAY], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { day, today: rows.collect::<Result<_, _>>()?, buckets: HashMap::new() })
    }

    /// Takes a token of the tenant's rate for a request, whatever its result will be, or refuses the request. `now` is a
    /// time that does not jump.
    pub(super) fn admit_request(
        &mut self,
        tenant: TenantSeq,
        policy: &TenantPolicy,
        now: Millis,
    ) -> Result<(), QuotaExceeded> {
        let Some(rate) = policy.events_per_second else { return Ok(()) };
        let rate = u64::from(rate.get());
        let burst = policy.events_burst.map_or(rate, |burst| burst.get().into());
        let bucket = self.buckets.entry(tenant).or_insert(Bucket { missing: 0, at: now });
        let passed = u64::try_from(now - bucket.at).unwrap_or(0);
        bucket.missing = bucket.missing.saturating_sub(passed.saturating_mul(rate));
        bucket.at = now;
        let after = bucket.missing + TOKEN;
        if after > burst * TOKEN {
            let wait = (after - burst * TOKEN).div_ceil(rate);
            let retry_after = Some(Duration::from_millis(wait));
            return Err(QuotaExceeded { quota: Quota::EventsPerSecond, limit: rate, retry_after });
        }
        bucket.missing = after;
        Ok(())
    }

    /// Counts an event of the tenant, or refuses it. `pending` is the number of pending deliveries of the tenant, and
    /// `wall` the calendar time.
    pub(super) fn admit(
        &mut self,
        tenant: TenantSeq,
        policy: &TenantPolicy,
        bytes: usize,
        pending: impl FnOnce() -> u64,
        wall: Millis,
    ) -> Result<(), QuotaExceeded> {
        let refuse = |quota, limit: u64, retry_after| Err(QuotaExceeded { quota, limit, retry_after });
        self.turn_day(wall);
        if let Some(max) = policy.event_bytes_max.filter(|max| bytes as u64 > u64::from(max.get())) {
            return refuse(Quota::EventBytes, max.get().into(), None);
        }
        let today = self.today.get(&tenant).copied().unwrap_or(0);
        if let Some(max) = policy.events_per_day.filter(|max| today >= max.get()) {
            let left = u64::try_from(self.day + DAY - wall).unwrap_or(0);
            return refuse(Quota::EventsPerDay, max.get(), Some(Duration::from_millis(left)));
        }
        check_backlog(policy, pending)?;
        *self.today.entry(tenant).or_default() += 1;
        Ok(())
    }

    /// Begins the day of `wall`. A clock that is set back over midnight and forward again does not begin a day twice.
    fn turn_day(&mut self, wall: Millis) {
        let day = beginning_of_day(wall);
        // A clock that is set back by more than a day was wrong before.
        if day > self.day || day < self.day - DAY {
            self.day = day;
            self.today.clear();
        }
    }

    /// Takes back a count whose job or commit failed.
    pub(super) fn undo(&mut self, used: QuotaUse) {
        match used {
            QuotaUse::Request(tenant) => {
                if let Some(bucket) = self.buckets.get_mut(&tenant) {
                    bucket.missing = bucket.missing.saturating_sub(TOKEN);
                }
            }
            QuotaUse::Event(tenant) => {
                if let Some(today) = self.today.get_mut(&tenant) {
                    *today = today.saturating_sub(1);
                }
            }
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
        let mut admit = |now| counters.admit_request(TENANT, &policy, now);
        assert!((0..3).all(|_| admit(1_000).is_ok()));
        let refused = admit(1_000).unwrap_err();
        assert_eq!((refused.quota, refused.limit), (Quota::EventsPerSecond, 10));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
        assert_eq!(admit(1_099).unwrap_err().retry_after, Some(Duration::from_millis(1)));
        assert!(admit(1_100).is_ok() && admit(1_100).is_err());
        assert_eq!((0..9).filter(|_| admit(9_000).is_ok()).count(), 3, "at most a burst");
    }

    #[test]
    fn token_of_a_failed_job_is_given_back() {
        let policy = policy(r#"{"events_per_second": 10, "events_burst": 1}"#);
        let mut counters = QuotaCounters::default();
        counters.undo(QuotaUse::Request(TENANT));
        assert!(counters.admit_request(TENANT, &policy, 0).is_ok());
        assert!(counters.admit_request(TENANT, &policy, 0).is_err());
        counters.undo(QuotaUse::Request(TENANT));
        assert!(counters.admit_request(TENANT, &policy, 0).is_ok());
        assert!(counters.admit_request(TENANT, &policy, 0).is_err());
    }

    #[test]
    fn events_of_a_day_are_counted_from_midnight_utc() {
        let policy = policy(r#"{"events_per_day": 2}"#);
        let mut counters = QuotaCounters::default();
        let mut admit = |wall| counters.admit(TENANT, &policy, 1, || 0, wall);
        assert!(admit(DAY - 2_000).is_ok() && admit(DAY - 2_000).is_ok());
        assert_eq!(admit(DAY - 2_000).unwrap_err().retry_after, Some(Duration::from_secs(2)));
        assert!(admit(DAY).is_ok());
        // The clock is set back over midnight, and forward again.
        assert!(admit(DAY - 1_000).is_ok());
        assert_eq!(
            admit(DAY - 1_000).unwrap_err().retry_after,
            Some(Duration::from_secs(DAY as u64 / 1_000 + 1))
        );
        assert!(admit(DAY + 1_000).is_err());
        assert!(admit(9 * DAY).is_ok());
        assert!(admit(2 * DAY).is_ok(), "the clock was wrong before");
    }

    #[test]
    fn refused_event_is_not_counted() {
        let policy = policy(r#"{"events_per_day": 2, "event_bytes_max": 10, "backlog_max": 5}"#);
        let mut counters = QuotaCounters::default();
        for _ in 0..9 {
            let refused = counters.admit(TENANT, &policy, 11, || 0, 0).unwrap_err();
            assert_eq!((refused.quota, refused.retry_after), (Quota::EventBytes, None));
            let refused = counters.admit(TENANT, &policy, 10, || 5, 0).unwrap_err();
            assert_eq!((refused.quota, refused.limit), (Quota::Backlog, 5));
        }
        assert!((0..2).all(|_| counters.admit(TENANT, &policy, 10, || 4, 0).is_ok()));
        counters.undo(QuotaUse::Event(TENANT));
        assert!(counters.admit(TENANT, &policy, 10, || 4, 0).is_ok());
    }
}
