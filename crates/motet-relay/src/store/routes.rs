//! Which endpoints an event goes to: the writer's copy of the patterns of enabled endpoints.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::StoreError;
use crate::pattern::{EventType, Pattern};

/// The routes of the writer thread. They are never stale, because the writer itself makes every change of an endpoint.
#[derive(Debug)]
pub(super) struct Routes {
    /// `None` until loaded, and after a change or a rollback.
    routes: Option<Arc<[Route]>>,
    fan_out: FanOut,
}

/// Estimates how many rows an event takes, which is the weight of its publish in a commit.
///
/// The estimate uses the routes of the last stored event, which is good enough for a weight.
#[derive(Debug, Clone, Default)]
pub(super) struct FanOut(Arc<Mutex<Arc<[Route]>>>);

impl FanOut {
    /// Returns 1 for the event, plus 1 for each endpoint that it goes to.
    pub(super) fn rows(&self, event_type: &EventType) -> usize {
        let routes = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        1 + matching(&routes, event_type).count()
    }
}

#[derive(Debug)]
pub(super) struct Route {
    endpoint: i64,
    patterns: Vec<Pattern>,
}

impl Routes {
    pub(super) fn new(fan_out: FanOut) -> Self {
        Self { routes: None, fan_out }
    }

    /// Discards the routes. Must be called after each change of an endpoint, and after a rollback.
    pub(super) fn invalidate(&mut self) {
        self.routes = None;
    }

    /// Returns the endpoints that events of this type go to, in the order of their creation.
    pub(super) fn matching(
        &mut self,
        connection: &Connection,
        event_type: &EventType,
    ) -> Result<Vec<i64>, StoreError> {
        let routes = match &mut self.routes {
            Some(routes) => routes,
            empty => {
                let loaded: Arc<[Route]> = load(connection)?.into();
                *self.fan_out.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded);
                empty.insert(loaded)
            }
        };
        Ok(matching(routes, event_type).collect())
    }
}

fn matching(routes: &[Route], event_type: &EventType) -> impl Iterator<Item = i64> {
    let wanted = routes.iter().filter(|route| route.patterns.iter().any(|p| p.matches(event_type)));
    wanted.map(|route| route.endpoint)
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

/// Parses the stored form of a list of patterns.
pub(super) fn parse_patterns(stored: &str) -> Result<Vec<Pattern>, StoreError> {
    stored
        .split(' ')
        .map(|text| {
            Pattern::parse(text).map_err(|e| StoreError::Corrupt(format!("stored pattern {text:?} {e}")))
        })
        .collect()
}
