//! `motet-relay check`: the damage of a store, in the words of relay.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::events::{COLUMNS, from_row};
use super::schema_text::missing_objects;
use super::{StoreError, schema};
use crate::error::OpenError;
use crate::ids::{IdKind, Ids};

/// Findings of a kind beyond this number are counted only.
const MOST: usize = 20;

/// The damage of a store.
#[derive(Debug, Default)]
pub(crate) struct StoreCheck {
    /// The schema version.
    pub(crate) version: i64,
    pub(crate) findings: Vec<String>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckDepth {
    /// The pages, without the order of the indexes, and the schema.
    Quick,
    /// The pages and indexes, each row and how the rows belong together.
    Full,
}

/// Rows that must not exist: the name, the kind of the identifier, and a query of the numbers of the rows.
const ORPHANS: [(&str, IdKind, &str); 6] = [
    (
        "a pending delivery has no row in `due`, so it is not attempted",
        IdKind::Delivery,
        "SELECT seq FROM deliveries d WHERE state = 0 AND NOT EXISTS
             (SELECT 1 FROM due WHERE endpoint_seq = d.endpoint_seq AND due_at = d.due_at AND delivery_seq = d.seq)",
    ),
    (
        "a row in `due` is of a delivery that is not pending",
        IdKind::Delivery,
        "SELECT delivery_seq FROM due WHERE delivery_seq NOT IN (SELECT seq FROM deliveries WHERE state = 0)",
    ),
    (
        "a pending delivery is of an event that is not stored",
        IdKind::Delivery,
        "SELECT seq FROM deliveries d WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM events WHERE seq = d.event_seq)",
    ),
    (
        "a pending delivery is to an endpoint that is not stored",
        IdKind::Delivery,
        "SELECT seq FROM deliveries d WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM endpoints WHERE seq = d.endpoint_seq)",
    ),
    (
        "an event is of a tenant that is not stored",
        IdKind::Event,
        "SELECT seq FROM events WHERE tenant_seq NOT IN (SELECT seq FROM tenants)",
    ),
    (
        "an endpoint is of a tenant that is not stored",
        IdKind::Endpoint,
        "SELECT seq FROM endpoints WHERE tenant_seq NOT IN (SELECT seq FROM tenants)",
    ),
];

/// Checks the store in a directory, which a relay may be using, or a backup file. Nothing is changed.
pub(crate) fn check(path: &Path, depth: CheckDepth) -> Result<StoreCheck, OpenError> {
    let database = if path.is_dir() { path.join(schema::FILE_NAME) } else { PathBuf::from(path) };
    let sql = |error| OpenError::sql(&database, error);
    let connection = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sql)?;
    connection.busy_timeout(schema::BUSY_TIMEOUT).map_err(sql)?;
    let version = schema::identify(&connection, &database)?;
    // One state of the store: a relay may be writing.
    let all = connection.unchecked_transaction().map_err(sql)?;
    let mut check = StoreCheck { version, findings: Vec::new() };
    let pragma = match depth {
        CheckDepth::Quick => "quick_check",
        CheckDepth::Full => "integrity_check",
    };
    match schema::all_findings(&all, pragma) {
        Ok(findings) if findings.is_empty() => {}
        // Again, table by table: damage of a table ends the check of all of them, and does not always name the table.
        Ok(findings) => check_tables(&all, pragma, findings, &mut check.findings),
        Err(error) => check_tables(&all, pragma, vec![error.to_string()], &mut check.findings),
    }
    if version == schema::VERSION {
        match missing_objects(&all) {
            Ok(missing) => check.findings.extend(
                missing.into_iter().map(|name| format!("the table or index `{name}` is missing or differs")),
            ),
            Err(error) => check.findings.push(format!("the schema cannot be read: {error}")),
        }
    }
    if depth == CheckDepth::Full {
        check_rows(&all, &mut check.findings);
    }
    Ok(check)
}

fn check_rows(connection: &Connection, findings: &mut Vec<String>) {
    // Without the id of the store, the rows are named by their numbers.
    let ids = schema::ids(connection).ok();
    let name = |kind, row: i64| ids.map_or_else(|| row.to_string(), |ids: Ids| ids.format(kind, row));
    for (what, kind, query) in ORPHANS {
        let rows = connection.prepare(query).and_then(|mut statement| {
            statement.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()
        });
        match rows {
            Ok(rows) => {
                add(findings, what, rows.into_iter().map(|row| format!("{what}: {}", name(kind, row))))
            }
            Err(error) => findings.push(format!("cannot find out if {what}: {error}")),
        }
    }
    let mut unreadable = Vec::new();
    let read = check_events(connection, |row, why| {
        unreadable.push(format!("the event {} cannot be read: {why}", name(IdKind::Event, row)));
    });
    add(findings, "an event cannot be read", unreadable.into_iter());
    if let Err(error) = read {
        findings.push(format!("not all events can be read: {error}"));
    }
}

/// Reads each event, and compares it with its checksum.
fn check_events(
    connection: &Connection,
    mut unreadable: impl FnMut(i64, StoreError),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM events"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(why) = from_row(row) {
            unreadable(row.get(0)?, why);
        }
    }
    Ok(())
}

/// Adds findings, and the number of those that are too many.
fn add(findings: &mut Vec<String>, what: &str, new: impl Iterator<Item = String>) {
    let mut new = new.peekable();
    findings.extend(new.by_ref().take(MOST));
    let more = new.count();
    if more > 0 {
        findings.push(format!("{what}: {more} more"));
    }
}

/// Checks the pages of each table and of its indexes. If that finds nothing, `of_all` is the damage.
fn check_tables(connection: &Connection, pragma: &str, of_all: Vec<String>, findings: &mut Vec<String>) {
    let before = findings.len();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let tables = connection.prepare(sql).and_then(|mut statement| {
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
    });
    for table in tables.unwrap_or_default() {
        match schema::all_findings(connection, &format!("{pragma}('{table}')")) {
            Ok(found) => {
                let found = found.into_iter().map(|finding| format!("table `{table}`: {finding}"));
                add(findings, &format!("table `{table}`"), found);
            }
            Err(error) => findings.push(format!("table `{table}`: {error}")),
        }
    }
    if findings.len() == before {
        add(findings, "pages", of_all.into_iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with one event and its pending delivery.
    fn store(directory: &Path) -> Connection {
        let database = directory.join(schema::FILE_NAME);
        let mut connection = schema::open(&database, directory).unwrap();
        schema::store_id(&mut connection).unwrap();
        let rows = "INSERT INTO endpoints (tenant_seq, url, patterns, enabled, secret, created_at, updated_at)
                 VALUES (1, 'http://a/', '>', 1, 's', 0, 0);
             INSERT INTO deliveries (tenant_seq, event_seq, endpoint_seq, state, attempts, round, due_at, updated_at)
                 VALUES (1, 1, 1, 0, 0, 0, 5, 0);
             INSERT INTO due (endpoint_seq, due_at, delivery_seq, event_seq, round, attempts) VALUES (1, 5, 1, 1, 0, 0)";
        connection.execute_batch(rows).unwrap();
        let sql =
            "INSERT INTO events (tenant_seq, type, created_at, checksum, data) VALUES (1, 'a', 0, ?1, NULL)";
        connection.execute(sql, [super::super::events::checksum_of_erased("a", 0)]).unwrap();
        connection
    }

    fn findings(directory: &Path) -> Vec<String> {
        check(directory, CheckDepth::Full).unwrap().findings
    }

    #[test]
    fn each_kind_of_damaged_row_is_found_by_its_id() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            findings({
                drop(store(directory.path()));
                directory.path()
            }),
            [""; 0]
        );
        for (damage, finding) in [
            ("DELETE FROM due", "has no row in `due`, so it is not attempted: dlv_"),
            ("UPDATE deliveries SET state = 1", "of a delivery that is not pending: dlv_"),
            ("DELETE FROM events", "of an event that is not stored: dlv_"),
            ("DELETE FROM endpoints", "to an endpoint that is not stored: dlv_"),
            ("UPDATE events SET tenant_seq = 9", "an event is of a tenant that is not stored: evt_"),
            ("UPDATE endpoints SET tenant_seq = 9", "an endpoint is of a tenant that is not stored: ep_"),
            ("UPDATE events SET created_at = 1", "cannot be read"),
            ("DROP INDEX events_by_tenant", "`events_by_tenant` is missing or differs"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            store(directory.path()).execute_batch(damage).unwrap();
            let found = findings(directory.path());
            assert!(found.len() == 1 && found[0].contains(finding), "{damage}: {found:?}");
        }
    }

    #[test]
    fn damaged_page_is_named_with_its_table() {
        let directory = tempfile::tempdir().unwrap();
        let connection = store(directory.path());
        let root: usize = connection
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'endpoints'", [], |row| row.get(0))
            .unwrap();
        connection.close().unwrap();
        let database = directory.path().join(schema::FILE_NAME);
        let mut bytes = std::fs::read(&database).unwrap();
        bytes[(root - 1) * 4_096..root * 4_096].fill(0xa5);
        std::fs::write(&database, bytes).unwrap();
        for depth in [CheckDepth::Quick, CheckDepth::Full] {
            let found = check(directory.path(), depth).unwrap().findings;
            assert!(found.iter().any(|finding| finding.starts_with("table `endpoints`: ")), "{found:?}");
        }
    }

    #[test]
    fn many_findings_of_a_kind_are_counted() {
        let mut findings = Vec::new();
        add(&mut findings, "a row", (0..25).map(|row| row.to_string()));
        assert_eq!(findings.len(), MOST + 1);
        assert_eq!(findings.last().unwrap(), "a row: 5 more");
    }
}
