//! The events that retention would delete now: the answer of `GET /v1/retention`, and of `motet-relay retention --dry-run`.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

use super::candidates::{Candidate, numbers_after};
use super::settle::{RecentDeaths, stays};
use super::steps::keep_times;
use super::{DueKind, KeepTimes, position};
use crate::clock::Millis;
use crate::config::Retention;
use crate::store::replays::ReplayReach;
use crate::store::space::used_bytes;
use crate::store::{Store, StoreError, TenantSeq};

/// A plan looks at up to this number of events, in reads of up to `PER_READ` events.
const MAX_LOOKED_AT: usize = 100_000;
const PER_READ: usize = 1_000;

/// Number of tenants of a plan.
const MAX_TENANTS: usize = 1_000;

/// The events that retention would delete of a tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TenantRetention {
    pub(crate) tenant: TenantSeq,
    pub(crate) keep: KeepTimes,
    /// Events whose data is due, without those whose rows are.
    pub(crate) payloads: u64,
    /// Events whose rows are due.
    pub(crate) events: u64,
    /// The size of the data of these events.
    pub(crate) bytes: u64,
    /// Due events that are in use.
    pub(crate) in_use: u64,
    /// When the oldest event was published.
    pub(crate) oldest_at: Option<Millis>,
}

/// The events that retention would delete.
#[derive(Debug, Default)]
pub(crate) struct RetentionPlan {
    pub(crate) tenants: Vec<TenantRetention>,
    /// `true` if the plan ended at its limit, so that there may be more to delete.
    pub(crate) more: bool,
    pub(crate) used_bytes: u64,
}

impl Store {
    /// The settings of retention; `None` if it does not run.
    pub(crate) fn retention_settings(&self) -> Option<&Retention> {
        self.shared.retention_settings.as_ref()
    }

    /// Returns what retention with these settings would delete now. Looks at a bounded number of events.
    pub(crate) async fn plan_retention(&self, settings: Retention) -> Result<RetentionPlan, StoreError> {
        let relay = Arc::new(settings);
        let (now, due_now) = (self.clock().retention_now(), self.clock().due_now());
        let mut plan = RetentionPlan {
            used_bytes: self.shared.readers.read(used_bytes).await?,
            ..RetentionPlan::default()
        };
        let (mut left, mut after) = (MAX_LOOKED_AT, TenantSeq::numbered(0));
        loop {
            let of_relay = Arc::clone(&relay);
            let next = self.shared.readers.read(move |connection| begin(connection, &of_relay, after));
            let Some(mut tenant) = next.await? else { return Ok(plan) };
            after = tenant.tenant;
            for kind in [DueKind::Rows, DueKind::Data] {
                let mut next = Some(None);
                while let Some(from) = next {
                    let read =
                        move |connection: &Connection| count(connection, tenant, kind, from, now, due_now);
                    let looked;
                    (tenant, next, looked) = self.shared.readers.read(read).await?;
                    left = left.saturating_sub(looked.max(1));
                    if left == 0 {
                        plan.more = true;
                        plan.tenants.push(tenant);
                        return Ok(plan);
                    }
                }
            }
            plan.tenants.push(tenant);
            if plan.tenants.len() == MAX_TENANTS {
                plan.more = true;
                return Ok(plan);
            }
        }
    }

    /// Returns when the oldest event was published, and how late retention is, in seconds.
    pub(crate) async fn retention_ages(&self) -> Result<(Option<f64>, f64), StoreError> {
        let read = |connection: &Connection| {
            let sql = "SELECT created_at FROM events ORDER BY seq LIMIT 1";
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Millis>(0)).optional()?)
        };
        let oldest = self.shared.metrics_reader.read(read).await?;
        let age = oldest.map(|at| self.clock().wall().saturating_sub(at).max(0) as f64 / 1_000.0);
        Ok((age, self.shared.retention.lag(self.clock().retention_now()).as_secs_f64()))
    }
}

/// Returns the next tenant with events that is not deleted, with nothing counted.
fn begin(
    connection: &Connection,
    relay: &Retention,
    mut after: TenantSeq,
) -> Result<Option<TenantRetention>, StoreError> {
    let next = "SELECT min(tenant_seq) FROM events INDEXED BY events_by_tenant WHERE tenant_seq > ?1";
    loop {
        let found: Option<TenantSeq> =
            connection.prepare_cached(next)?.query_row([after], |row| row.get(0))?;
        let Some(tenant) = found else { return Ok(None) };
        after = tenant;
        let Some(keep) = keep_times(connection, relay, tenant)? else { continue };
        let first = numbers_after(connection, tenant, 0)?.first().copied();
        let first = first.map(|seq| Candidate::find(connection, seq)).transpose()?.flatten();
        let oldest_at = first.map(|event| event.created_at);
        return Ok(Some(TenantRetention {
            tenant,
            keep,
            payloads: 0,
            events: 0,
            bytes: 0,
            in_use: 0,
            oldest_at,
        }));
    }
}

type Counted = (TenantRetention, Option<Option<i64>>, usize);

/// Counts some due events of a tenant. Returns where the count continues, if there may be more.
fn count(
    connection: &Connection,
    mut tenant: TenantRetention,
    kind: DueKind,
    from: Option<i64>,
    now: Millis,
    due_now: Millis,
) -> Result<Counted, StoreError> {
    let Some(keep) = tenant.keep.of(kind) else { return Ok((tenant, None, 0)) };
    let reach = ReplayReach::of(connection, tenant.tenant)?;
    let deaths = RecentDeaths::by_time(now, keep);
    let mut upto = match from {
        Some(from) => from,
        None => position(connection, tenant.tenant, kind)?,
    };
    let mut looked = 0;
    while looked < PER_READ {
        let numbers = numbers_after(connection, tenant.tenant, upto)?;
        if numbers.is_empty() {
            return Ok((tenant, None, looked));
        }
        for seq in numbers {
            upto = seq;
            looked += 1;
            let Some(event) = Candidate::find(connection, seq)? else { continue };
            if event.created_at.saturating_add(keep) > now {
                return Ok((tenant, None, looked));
            }
            let has_due_rows = kind == DueKind::Data
                && tenant.keep.rows.is_some_and(|rows| event.created_at.saturating_add(rows) <= now);
            if has_due_rows || (kind == DueKind::Data && event.is_erased) {
                continue;
            }
            if stays(connection, kind, &event, &reach, deaths, due_now)? {
                tenant.in_use += 1;
                continue;
            }
            match kind {
                DueKind::Data => tenant.payloads += 1,
                DueKind::Rows => tenant.events += 1,
            }
            tenant.bytes += data_bytes(connection, seq)?;
        }
    }
    Ok((tenant, Some(Some(upto)), looked))
}

/// Returns the size of the data of an event, without reading the data.
fn data_bytes(connection: &Connection, event: i64) -> Result<u64, StoreError> {
    let sql = "SELECT coalesce(length(data), 0) FROM events WHERE seq = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([event], |row| row.get(0)).optional()?.unwrap_or(0))
}
