//! Retention: finished events are deleted after a time, and the oldest of them while the store is too large.
//!
//! | Rule | Deletes | After |
//! |---|---|---|
//! | data | the data of an event, and the responses to its attempts | `payload_keep` of relay or the tenant, or the event's own shorter time |
//! | rows | an event with its deliveries and attempts | `rows_keep` of relay or the tenant |
//! | size | the oldest events of all tenants, with their rows | the database has more bytes than `max_bytes` |
//!
//! An event that is in use stays whatever its age is: it has a pending delivery, a running replay may still send it, or (for
//! its rows) its idempotency key is still valid. Such an event is noted in `retained`, and is looked at again in turns, so
//! that the backlog of a paused endpoint does not make each pass look at all of it.
//!
//! A [`driver`] runs passes. A pass reads which tenants have due events, and [`steps`] deletes them: each step is a job of
//! the writer that changes at most [`CHANGED_PER_STEP`] rows and moves the position of the tenant in the same commit. So a
//! step that does not take place loses nothing, and a restart continues where the last commit ended. The rows of other
//! tables are deleted by [`housekeeping`] once an hour, and free pages go back to the file system in small steps.

mod candidates;
mod driver;
mod housekeeping;
mod plan;
mod settle;
mod signal;
mod steps;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension as _, params};

pub(super) use self::driver::run;
pub(crate) use self::plan::{RetentionPlan, TenantRetention};
pub(super) use self::settle::{Budget, erase_data, erase_responses};
pub(super) use self::signal::RetentionSignal;
use super::policy::TenantPolicy;
use super::{StoreError, TenantSeq};
use crate::clock::{Millis, millis};
use crate::config::Retention;

/// Number of rows that one step changes: few enough that other callers of its commit do not notice.
const CHANGED_PER_STEP: usize = 200;

/// An event that is dated this much later than now has a wrong time: the system's clock was ahead. It does not hold up the
/// events after it.
const CLOCK_MARGIN: Millis = 60 * 60 * 1_000;

/// The rule by which an event is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DueKind {
    Data,
    Rows,
}

impl DueKind {
    const ALL: [Self; 2] = [Self::Data, Self::Rows];

    const fn stored(self) -> i64 {
        match self {
            Self::Data => 1,
            Self::Rows => 2,
        }
    }

    fn read(stored: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.stored() == stored)
    }

    /// The column of `retention` with the position of this rule.
    const fn column(self) -> &'static str {
        match self {
            Self::Data => "data_upto",
            Self::Rows => "rows_upto",
        }
    }
}

/// The times of a tenant; `None` is forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeepTimes {
    pub(crate) data: Option<Millis>,
    pub(crate) rows: Option<Millis>,
}

impl KeepTimes {
    /// Returns the times of relay.
    fn of_relay(relay: &Retention) -> Self {
        Self { data: relay.payload_keep.map(millis), rows: relay.rows_keep.map(millis) }
    }

    /// Returns the times of a tenant with this policy.
    fn of_tenant(relay: &Retention, policy: &TenantPolicy) -> Self {
        let own = |seconds: u32| (seconds > 0).then(|| Millis::from(seconds) * 1_000);
        let inherited = Self::of_relay(relay);
        Self {
            data: policy.payload_keep_s.map_or(inherited.data, own),
            rows: policy.rows_keep_s.map_or(inherited.rows, own),
        }
    }

    const fn of(self, kind: DueKind) -> Option<Millis> {
        match kind {
            DueKind::Data => self.data,
            DueKind::Rows => self.rows,
        }
    }

    fn shortest(self) -> Option<Millis> {
        self.data.into_iter().chain(self.rows).min()
    }
}

/// Returns the last event of the tenant that a rule has looked at.
fn position(connection: &Connection, tenant: TenantSeq, kind: DueKind) -> Result<i64, StoreError> {
    let sql = format!("SELECT {} FROM retention WHERE tenant_seq = ?1", kind.column());
    let found = connection.prepare_cached(&sql)?.query_row([tenant], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

fn set_position(
    connection: &Connection,
    tenant: TenantSeq,
    kind: DueKind,
    upto: i64,
) -> Result<(), StoreError> {
    let column = kind.column();
    let sql = format!(
        "INSERT INTO retention (tenant_seq, {column}) VALUES (?1, ?2)
         ON CONFLICT (tenant_seq) DO UPDATE SET {column} = excluded.{column}"
    );
    connection.prepare_cached(&sql)?.execute(params![tenant, upto]).map(drop)?;
    Ok(())
}

/// Returns the newest event of the tenant, or of all tenants, that was deleted; 0 if there is none. A reader that has not
/// seen it has a gap.
pub(super) fn deleted_upto(connection: &Connection, tenant: Option<TenantSeq>) -> Result<i64, StoreError> {
    let sql = match tenant {
        Some(_) => "SELECT deleted_upto FROM retention WHERE tenant_seq = ?1",
        None => "SELECT max(deleted_upto) FROM retention WHERE ?1 IS NULL",
    };
    let found: Option<Option<i64>> =
        connection.prepare_cached(sql)?.query_row([tenant], |row| row.get(0)).optional()?;
    Ok(found.flatten().unwrap_or(0))
}

fn note_deleted(connection: &Connection, tenant: TenantSeq, event: i64) -> Result<(), StoreError> {
    let sql = "INSERT INTO retention (tenant_seq, deleted_upto) VALUES (?1, ?2)
         ON CONFLICT (tenant_seq) DO UPDATE SET deleted_upto = max(deleted_upto, excluded.deleted_upto)";
    connection.prepare_cached(sql)?.execute(params![tenant, event]).map(drop)?;
    Ok(())
}
