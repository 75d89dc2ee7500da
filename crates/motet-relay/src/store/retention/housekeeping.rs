//! Deletes old rows of the other tables, once an hour.
//!
//! | Rows | Deleted |
//! |---|---|
//! | idempotency keys | when they expire |
//! | ended replays and erasures, deleted endpoints without deliveries, revoked and expired API keys, expired sessions of the portal | `rows_keep` of their tenant after their end |
//! | counts of a minute | `rows_keep` of relay later, and not before two days: the quotas of a day are counted from them |
//!
//! An API key that may do everything for all tenants is kept: relay creates a first key in a store that never had one.

use rusqlite::{Connection, params};

use super::CHANGED_PER_STEP;
use super::driver::Driver;
use crate::clock::{Millis, millis};
use crate::store::StoreError;
use crate::store::keys::KeyChange;
use crate::store::writer::Tx;

const TWO_DAYS: Millis = 2 * 24 * 60 * 60 * 1_000;

/// Deletes expired rows. The parameters are the time and a limit.
const EXPIRED: [&str; 2] = [
    "DELETE FROM idempotency WHERE (tenant_seq, key) IN
         (SELECT tenant_seq, key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    "DELETE FROM once WHERE (tenant_seq, kind, key) IN
         (SELECT tenant_seq, kind, key FROM once WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
];

const COUNTS: &str = "DELETE FROM rollups WHERE (minute, node, tenant_seq, endpoint_seq) IN
     (SELECT minute, node, tenant_seq, endpoint_seq FROM rollups WHERE minute < ?1
      ORDER BY minute, node, tenant_seq, endpoint_seq LIMIT ?2)";

/// Is true if rows that ended at `{time}` are due. `t` is their tenant, if they have one; the parameters are the time and
/// relay's `rows_keep`, or NULL.
macro_rules! is_due {
    ($time:literal) => {
        concat!(
            $time,
            " + iif(json_extract(t.policy, '$.rows_keep_s') IS NULL, ?2,
                    nullif(json_extract(t.policy, '$.rows_keep_s'), 0) * 1000) <= ?1"
        )
    };
}

/// Rows that a read finds by their number, and that the writer deletes if they are still in that state.
struct Numbered {
    find: &'static str,
    delete: &'static [&'static str],
}

const NUMBERED: [Numbered; 3] = [
    Numbered {
        find: concat!(
            "SELECT r.seq FROM replays r LEFT JOIN tenants t ON t.seq = r.tenant_seq
             WHERE r.state <> 'running' AND ",
            is_due!("r.finished_at"),
            " ORDER BY r.seq LIMIT 50"
        ),
        delete: &[
            "DELETE FROM replay_parts WHERE replay_seq IN (SELECT seq FROM replays WHERE seq = ?1 AND state <> 'running')",
            "DELETE FROM replays WHERE seq = ?1 AND state <> 'running'",
        ],
    },
    Numbered {
        find: concat!(
            "SELECT e.seq FROM erasures e LEFT JOIN tenants t ON t.seq = e.tenant_seq WHERE ",
            is_due!("e.finished_at"),
            " ORDER BY e.seq LIMIT 200"
        ),
        delete: &["DELETE FROM erasures WHERE seq = ?1 AND finished_at IS NOT NULL"],
    },
    Numbered {
        find: concat!(
            "SELECT e.seq FROM endpoints e INDEXED BY endpoints_deleted LEFT JOIN tenants t ON t.seq = e.tenant_seq
             WHERE e.deleted_at IS NOT NULL AND ",
            is_due!("e.deleted_at"),
            " AND NOT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_by_endpoint WHERE endpoint_seq = e.seq)
             LIMIT 200"
        ),
        delete: &["DELETE FROM endpoints WHERE seq = ?1 AND deleted_at IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM deliveries INDEXED BY deliveries_by_endpoint WHERE endpoint_seq = ?1)"],
    },
];

const ENDED_SESSIONS: &str = concat!(
    "SELECT p.hash FROM portal_sessions p LEFT JOIN tenants t ON t.seq = p.tenant_seq WHERE ",
    is_due!("p.expires_at"),
    " LIMIT 200"
);

/// The bit of the scope `admin` is the third parameter.
const ENDED_KEYS: &str = concat!(
    "SELECT k.id FROM api_keys k LEFT JOIN tenants t ON t.seq = k.tenant_seq
     WHERE NOT (k.tenant_seq IS NULL AND k.scopes & ?3) AND ",
    is_due!("min(coalesce(k.revoked_at, k.expires_at), coalesce(k.expires_at, k.revoked_at))"),
    " LIMIT 200"
);

/// Deletes all such rows.
pub(super) async fn run(driver: &Driver, now: Millis) -> Result<(), StoreError> {
    let keep = driver.relay().rows_keep.map(millis);
    for sql in EXPIRED {
        // Their times are on the scale of due times.
        while driver.paced(move |tx| delete_some(tx, sql, tx.due_now)).await? {}
    }
    if let Some(keep) = keep {
        let before = now.saturating_sub(keep.max(TWO_DAYS));
        while driver.paced(move |tx| delete_some(tx, COUNTS, before)).await? {}
    }
    for Numbered { find, delete } in NUMBERED {
        loop {
            let found: Vec<i64> = find_some(driver, find, now, keep).await?;
            if found.is_empty() {
                break;
            }
            driver.paced(move |tx| delete_numbered(tx, delete, &found)).await?;
        }
    }
    loop {
        let found: Vec<Vec<u8>> = find_some(driver, ENDED_SESSIONS, now, keep).await?;
        if found.is_empty() {
            break;
        }
        driver.paced(move |tx| delete_sessions(tx, &found, now)).await?;
    }
    loop {
        let admin = crate::access::KeyScopes::ADMIN.bits();
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(ENDED_KEYS)?;
            let rows = statement.query_map(params![now, keep, admin], |row| row.get(0))?;
            Ok(rows.collect::<Result<Vec<String>, _>>()?)
        };
        let found = driver.store().shared.readers.read(read).await?;
        if found.is_empty() {
            return Ok(());
        }
        driver.paced(move |tx| delete_keys(tx, &found)).await?;
    }
}

async fn find_some<T>(
    driver: &Driver,
    sql: &'static str,
    now: Millis,
    keep: Option<Millis>,
) -> Result<Vec<T>, StoreError>
where
    T: rusqlite::types::FromSql + Send + 'static,
{
    let read = move |connection: &Connection| {
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![now, keep], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    driver.store().shared.readers.read(read).await
}

/// Returns `true` if there may be more.
fn delete_some(tx: &Tx<'_>, sql: &str, time: Millis) -> Result<bool, StoreError> {
    let deleted = tx.connection.prepare_cached(sql)?.execute(params![time, CHANGED_PER_STEP])?;
    Ok(deleted == CHANGED_PER_STEP)
}

fn delete_numbered(tx: &Tx<'_>, statements: &[&str], rows: &[i64]) -> Result<(), StoreError> {
    for row in rows {
        for sql in statements {
            tx.connection.prepare_cached(sql)?.execute([row])?;
        }
    }
    Ok(())
}

fn delete_sessions(tx: &Tx<'_>, hashes: &[Vec<u8>], now: Millis) -> Result<(), StoreError> {
    let sql = "DELETE FROM portal_sessions WHERE hash = ?1 AND expires_at <= ?2";
    for hash in hashes {
        tx.connection.prepare_cached(sql)?.execute(params![hash, now])?;
    }
    Ok(())
}

fn delete_keys(tx: &mut Tx<'_>, keys: &[String]) -> Result<(), StoreError> {
    // A key that has ended does not become valid again.
    let sql = "DELETE FROM api_keys WHERE id = ?1";
    for key in keys {
        if tx.connection.prepare_cached(sql)?.execute([key])? == 1 {
            tx.key_changes.push(KeyChange::Revoked(key.clone()));
        }
    }
    Ok(())
}
