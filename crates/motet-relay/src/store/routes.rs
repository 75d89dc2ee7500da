//! Which endpoints an event goes to: the writer's copy of the enabled endpoints' patterns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;

use super::StoreError;
use crate::pattern::{EventType, Pattern};

/// Kept by the writer thread, which makes every change to endpoints itself, and so never stale.
#[derive(Debug)]
pub(super) struct Routes {
    /// `None` until loaded, and after a change or a rollback.
    routes: Option<Vec<Route>>,
    fan_out: FanOut,
}

/// How many endpoints an event can go to; what a publish weighs in a commit depends on it.
#[derive(Debug, Clone, Default)]
pub(super) struct FanOut(Arc<AtomicUsize>);

impl FanOut {
    /// As of the last event that was stored.
    pub(super) fn rows_per_event(&self) -> usize {
        1 + self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Route {
    endpoint: i64,
    patterns: Vec<Pattern>,
}

impl Routes {
    pub(super) fn new(fan_out: FanOut) -> Self {
        Self { routes: None, fan_out }
    }

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
            empty => {
                let loaded = load(connection)?;
                self.fan_out.0.store(loaded.len(), Ordering::Relaxed);
                empty.insert(loaded)
            }
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
        "SELECT seq, patterns FROM endpoints
         WHERE enabled = 1 AND held <> 1 AND deleted_at IS NULL ORDER BY seq",
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
