//! The catalogue of event types. Events of types that are not in it are accepted as well.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;

use super::policy;
use super::{Store, StoreError};
use crate::clock::Millis;

/// An event type of the catalogue.
#[derive(Debug, Clone)]
pub(crate) struct EventTypeRow {
    pub(crate) name: String,
    pub(crate) description: String,
    /// JSON schemas by their version.
    pub(crate) schemas: Option<Value>,
    pub(crate) group_name: Option<String>,
    pub(crate) is_archived: bool,
    pub(crate) is_deprecated: bool,
    pub(crate) created_at: Millis,
    pub(crate) updated_at: Millis,
}

/// The fields of an event type; `None` leaves a field unchanged, or at its default.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventTypeChange {
    pub(crate) description: Option<String>,
    /// `Some(None)` removes the schemas.
    pub(crate) schemas: Option<Option<Value>>,
    pub(crate) group_name: Option<Option<String>>,
    pub(crate) is_archived: Option<bool>,
    pub(crate) is_deprecated: Option<bool>,
}

/// How an event type is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventTypeWrite {
    /// It must not exist, unless it is archived.
    Create,
    /// It may exist; fields that are left out get their defaults.
    Put,
    /// It must exist.
    Patch,
}

/// The result of a write.
#[derive(Debug)]
pub(crate) enum EventTypePut {
    Created(EventTypeRow),
    Updated(EventTypeRow),
    Exists,
    Missing,
}

const COLUMNS: &str = "name, description, schemas, group_name, archived, deprecated, created_at, updated_at";

/// Maximum size of the schemas of an event type as JSON.
const MAX_SCHEMA_BYTES: usize = 64 << 10;

impl Store {
    pub(crate) async fn event_type(&self, name: String) -> Result<Option<EventTypeRow>, StoreError> {
        self.shared.readers.read(move |connection| find(connection, &name)).await
    }

    /// Returns event types in the order of their names, or in the reverse order: those after `from`, at most `limit`.
    pub(crate) async fn event_types(
        &self,
        from: Option<String>,
        is_descending: bool,
        with_archived: bool,
        limit: usize,
    ) -> Result<Vec<EventTypeRow>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let (sign, order) = if is_descending { ("<", "DESC") } else { (">", "ASC") };
                // After all names, which are ASCII.
                let last = if is_descending { "\u{7f}" } else { "" };
                let sql = format!(
                    "SELECT {COLUMNS} FROM event_types WHERE name {sign} ?1 AND (?2 OR archived = 0)
                     ORDER BY name {order} LIMIT ?3"
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let from = from.as_deref().unwrap_or(last);
                let rows = statement.query_and_then(params![from, with_archived, limit], from_row)?;
                rows.collect()
            })
            .await
    }

    /// Writes an event type.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the schemas are too large.
    pub(crate) async fn write_event_type(
        &self,
        name: String,
        change: EventTypeChange,
        how: EventTypeWrite,
    ) -> Result<EventTypePut, StoreError> {
        self.write(1, move |tx| {
            let known = find(tx.connection, &name)?;
            let is_new = known.is_none();
            let mut row = match (known, how) {
                (None, EventTypeWrite::Patch) => return Ok(EventTypePut::Missing),
                (Some(known), EventTypeWrite::Create) if !known.is_archived => {
                    return Ok(EventTypePut::Exists);
                }
                (Some(known), EventTypeWrite::Patch) => known,
                (known, EventTypeWrite::Create | EventTypeWrite::Put) => EventTypeRow {
                    name,
                    description: String::new(),
                    schemas: None,
                    group_name: None,
                    is_archived: false,
                    is_deprecated: false,
                    created_at: known.map_or(tx.wall, |known| known.created_at),
                    updated_at: tx.wall,
                },
            };
            change.apply(&mut row);
            if is_new {
                tx.space.check_row(tx.connection)?;
            }
            row.updated_at = tx.wall;
            let schemas = row.schemas.as_ref().map(policy::write).transpose()?;
            if let Some(bytes) = schemas.as_ref().map(String::len).filter(|bytes| *bytes > MAX_SCHEMA_BYTES) {
                return Err(StoreError::Invalid(format!(
                    "schemas have {bytes} bytes as JSON; at most {MAX_SCHEMA_BYTES} are allowed"
                )));
            }
            tx.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO event_types (name, description, schemas, group_name, archived, deprecated,
                         created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    row.name,
                    row.description,
                    schemas,
                    row.group_name,
                    row.is_archived,
                    row.is_deprecated,
                    row.created_at,
                    row.updated_at
                ])?;
            Ok(if is_new { EventTypePut::Created(row) } else { EventTypePut::Updated(row) })
        })
        .await
    }

    /// Removes an event type from the catalogue. Returns `false` if there is none.
    pub(crate) async fn remove_event_type(&self, name: String) -> Result<bool, StoreError> {
        self.write(1, move |tx| {
            let delete = "DELETE FROM event_types WHERE name = ?1";
            Ok(tx.connection.prepare_cached(delete)?.execute([name])? == 1)
        })
        .await
    }
}

impl EventTypeChange {
    fn apply(self, row: &mut EventTypeRow) {
        if let Some(description) = self.description {
            row.description = description;
        }
        if let Some(schemas) = self.schemas {
            row.schemas = schemas;
        }
        if let Some(group_name) = self.group_name {
            row.group_name = group_name;
        }
        if let Some(is_archived) = self.is_archived {
            row.is_archived = is_archived;
        }
        if let Some(is_deprecated) = self.is_deprecated {
            row.is_deprecated = is_deprecated;
        }
    }
}

fn find(connection: &Connection, name: &str) -> Result<Option<EventTypeRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM event_types WHERE name = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([name], |row| Ok(from_row(row))).optional()?.transpose()
}

fn from_row(row: &Row<'_>) -> Result<EventTypeRow, StoreError> {
    let schemas = row.get::<_, Option<String>>(2)?;
    Ok(EventTypeRow {
        name: row.get(0)?,
        description: row.get(1)?,
        schemas: schemas.map(|text| policy::parse(&text)).transpose()?,
        group_name: row.get(3)?,
        is_archived: row.get(4)?,
        is_deprecated: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}
