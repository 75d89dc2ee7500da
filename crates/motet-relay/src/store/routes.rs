//! Which endpoints an event goes to: the writer's copy of the enabled endpoints' patterns.

use rusqlite::Connection;

use super::StoreError;
use crate::pattern::{EventType, Pattern};

/// Kept by the writer thread, which makes every change to endpoints itself, and so never stale.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// `None` until loaded, and after a change or a rollback.
    routes: Option<Vec<Route>>,
}

#[derive(Debug)]
struct Route {
    endpoint: i64,
    patterns: Vec<Pattern>,
}

impl Routes {
    /// To be called after any change to an endpoint, and after a rollback.
    pub(super) fn invalidate(&mut self) {
        self.routes = None;
    }

    /// The endpoints that events of this type go to, in the order they were created.
    pub(super) fn matching(
        &mut self,
        connection: &Connection,
        event_type: &EventType,
    ) -> Result<Vec<i64>, StoreError> {
        let routes = match &mut self.routes {
            Some(routes) => routes,
            empty => empty.insert(load(connection)?),
        };
        Ok(routes
            .iter()
            .filter(|route| route.patterns.iter().any(|p| p.matches(event_type)))
            .map(|route| route.endpoint)
            .collect())
    }
}

fn load(connection: &Connection) -> Result<Vec<Route>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, patterns FROM endpoints WHERE enabled = 1 AND deleted_at IS NULL ORDER BY seq",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (endpoint, patterns) = row?;
        Ok(Route { endpoint, patterns: parse_patterns(&patterns)? })
    })
    .collect()
}

/// Reads the stored form of a list of patterns.
pub(super) fn parse_patterns(stored: &str) -> Result<Vec<Pattern>, StoreError> {
    stored
        .split(' ')
        .map(|text| {
            Pattern::parse(text).map_err(|e| StoreError::Corrupt(format!("stored pattern {text:?} {e}")))
        })
        .collect()
}
