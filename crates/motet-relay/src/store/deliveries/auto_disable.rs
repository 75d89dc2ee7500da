//! Endpoints that relay itself stops attempting: the receiver is gone, or it only fails.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::{Attempt, FailureClass};
use crate::clock::{Millis, millis};
use crate::config::AutoDisable;
use crate::store::writer::Tx;
use crate::store::{StoreError, Wake};

/// Why relay holds what an endpoint is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HoldReason {
    /// The receiver answered 410: until somebody enables the endpoint again. It is owed nothing new.
    Gone,
    /// Every attempt failed: until a probe succeeds. It is owed what comes.
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

/// What an attempt changed for its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldChange {
    Held(HoldReason),
    /// One that is held because it only fails has failed again.
    StillFailing,
    Recovered,
}

/// How an endpoint stands, as its attempts have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndpointHealth {
    held: i64,
    failures: u32,
    since: Option<Millis>,
}

/// How the endpoint stands, if it is still the one that an attempt was made at.
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

/// Notes with the endpoint how an attempt went, whose delivery is due again at `due_at`.
pub(super) fn note(
    tx: &mut Tx<'_>,
    rules: &AutoDisable,
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
            // All that was held is looked at at once.
            tx.woken.push((endpoint, Wake::Due(tx.due_now)));
            return Ok(Some(HoldChange::Recovered));
        }
        Some(FailureClass::Receiver) => {}
        // It says nothing of the receiver. Without a new time a probe would be repeated at once.
        Some(class @ (FailureClass::Relay | FailureClass::Config)) => {
            if held == FAILING {
                let after_config = tx.due_now.saturating_add(millis(rules.probe_every));
                let probe_at = if class == FailureClass::Relay { due_at } else { after_config };
                set(tx, endpoint, FAILING, failures, since, Some(probe_at))?;
                tx.woken.push((endpoint, Wake::Due(probe_at)));
            }
            return Ok(None);
        }
    }
    let failures = failures.saturating_add(1);
    let since = since.unwrap_or(tx.due_now);
    if attempt.status == Some(410) && held != GONE {
        set(tx, endpoint, GONE, failures, Some(since), None)?;
        tx.routes.invalidate();
        return Ok(Some(HoldChange::Held(HoldReason::Gone)));
    }
    let only_fails = failures >= rules.failures && tx.due_now - since >= millis(rules.after);
    if held != FAILING && !(held == 0 && only_fails) {
        set(tx, endpoint, held, failures, Some(since), None)?;
        return Ok(None);
    }
    let probe_at = tx.due_now.saturating_add(millis(rules.probe_every));
    set(tx, endpoint, FAILING, failures, Some(since), Some(probe_at))?;
    tx.woken.push((endpoint, Wake::Due(probe_at)));
    Ok(Some(if held == FAILING { HoldChange::StillFailing } else { HoldChange::Held(HoldReason::Failing) }))
}

/// Called once at start: no probe may be further off than the longest time between two, whatever the clock said
/// when it was stored.
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
