//! Endpoints that relay has disabled: the receiver is gone, or all attempts fail.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Attempt, FailureClass};
use crate::clock::{Millis, millis};
use crate::config::AutoDisable;
use crate::store::writer::Tx;
use crate::store::{StoreError, TenantSeq, Wake};

/// The reason why relay has disabled an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HoldReason {
    /// The receiver responded with 410. The endpoint stays disabled until it is enabled through the API, and its new
    /// deliveries are skipped.
    Gone,
    /// Every attempt failed. The endpoint stays disabled until a probe succeeds, and still gets new deliveries.
    Failing,
}

pub(super) const GONE: i64 = 1;
pub(super) const FAILING: i64 = 2;

impl HoldReason {
    pub(in crate::store) fn read(stored: i64) -> Option<Self> {
        match stored {
            GONE => Some(Self::Gone),
            FAILING => Some(Self::Failing),
            _ => None,
        }
    }
}

/// The change of an endpoint by an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldChange {
    Held(HoldReason),
    /// A probe of a failing endpoint has failed.
    StillFailing,
    Recovered,
}

/// The failures of an endpoint, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndpointHealth {
    held: i64,
    failures: u32,
    since: Option<Millis>,
}

/// Returns the failures of the endpoint; `None` if the endpoint no longer has the generation of the attempt.
pub(super) fn at_generation(
    tx: &Tx<'_>,
    endpoint: i64,
    generation: i64,
) -> Result<Option<EndpointHealth>, StoreError> {
    let sql = "SELECT held, failures, failing_since FROM endpoints WHERE seq = ?1 AND generation = ?2";
    let read =
        |row: &Row<'_>| Ok(EndpointHealth { held: row.get(0)?, failures: row.get(1)?, since: row.get(2)? });
    Ok(tx.connection.prepare_cached(sql)?.query_row([endpoint, generation], read).optional()?)
}

/// Updates an endpoint after an attempt. `due_at` is the time at which the delivery of the attempt is due again.
pub(super) fn note(
    tx: &mut Tx<'_>,
    rules: &AutoDisable,
    tenant: TenantSeq,
    endpoint: i64,
    health: EndpointHealth,
    attempt: &Attempt,
    due_at: Millis,
) -> Result<Option<HoldChange>, StoreError> {
    let EndpointHealth { held, failures, since } = health;
    match attempt.class {
        None => {
            if failures == 0 {
                return Ok(None);
            }
            set(tx, endpoint, if held == FAILING { 0 } else { held }, 0, None, None)?;
            if held != FAILING {
                return Ok(None);
            }
            // All deliveries that were kept are due at once.
            tx.wake(tenant, endpoint, Wake::Due(tx.due_now));
            return Ok(Some(HoldChange::Recovered));
        }
        Some(FailureClass::Receiver) => {}
        // The attempt shows nothing about the receiver. Without a new time the probe would be repeated at once.
        Some(class @ (FailureClass::Relay | FailureClass::Config)) => {
            if held == FAILING {
                let after_config = tx.due_now.saturating_add(millis(rules.probe_every));
                let probe_at = if class == FailureClass::Relay { due_at } else { after_config };
                set(tx, endpoint, FAILING, failures, since, Some(probe_at))?;
                tx.wake(tenant, endpoint, Wake::Due(probe_at));
            }
            return Ok(None);
        }
    }
    let failures = failures.saturating_add(1);
    let since = since.unwrap_or(tx.due_now);
    if attempt.status == Some(410) && held != GONE {
        set(tx, endpoint, GONE, failures, Some(since), None)?;
        tx.routes.follow(tx.connection, tenant, endpoint)?;
        return Ok(Some(HoldChange::Held(HoldReason::Gone)));
    }
    let only_fails = failures >= rules.failures && tx.due_now - since >= millis(rules.after);
    if held != FAILING && !(held == 0 && only_fails) {
        set(tx, endpoint, held, failures, Some(since), None)?;
        return Ok(None);
    }
    let probe_at = tx.due_now.saturating_add(millis(rules.probe_every));
    set(tx, endpoint, FAILING, failures, Some(since), Some(probe_at))?;
    tx.wake(tenant, endpoint, Wake::Due(probe_at));
    Ok(Some(if held == FAILING { HoldChange::StillFailing } else { HoldChange::Held(HoldReason::Failing) }))
}

/// Limits probe times at the start: no probe may be later than the longest time between two probes from now, whatever
/// the clock showed when its time was stored.
pub(in crate::store) fn clamp_probes(connection: &Connection, latest: Millis) -> rusqlite::Result<()> {
    let sql = "UPDATE endpoints SET probe_at = ?1 WHERE probe_at > ?1";
    connection.execute(sql, [latest]).map(drop)
}

fn set(
    tx: &Tx<'_>,
    endpoint: i64,
    held: i64,
    failures: u32,
    since: Option<Millis>,
    probe_at: Option<Millis>,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "UPDATE endpoints SET held = ?2, failures = ?3, failing_since = ?4, probe_at = ?5 WHERE seq = ?1",
        )?
        .execute(params![endpoint, held, failures, since, probe_at])?;
    Ok(())
}
