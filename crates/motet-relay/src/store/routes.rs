//! Which endpoints an event goes to: the writer's copy of the patterns and channels of each tenant's endpoints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Row, params};

use super::policy::TenantPolicy;
use super::{HoldReason, NewEvent, StoreError, TenantSeq, tenants};
use crate::config::TenantQuotas;
use crate::pattern::Pattern;

/// The routes of the writer thread. They are never stale, because the writer itself makes every change of an endpoint.
#[derive(Debug)]
pub(super) struct Routes {
    /// Loaded with the first event of a tenant.
    loaded: HashMap<TenantSeq, Arc<TenantRoutes>>,
    /// The tenants whose routes the commit in progress has loaded or discarded.
    touched: Vec<TenantSeq>,
    fan_out: FanOut,
    /// The limits of tenants that have none of their own.
    quotas: TenantQuotas,
}

/// Estimates how many rows an event takes, which is the weight of its publish in a commit.
///
/// The estimate uses the routes of the tenant's last stored event, which is good enough for a weight.
#[derive(Debug, Clone, Default)]
pub(super) struct FanOut(Arc<Mutex<HashMap<TenantSeq, Arc<TenantRoutes>>>>);

impl FanOut {
    /// Returns 1 for the event, plus 1 for each endpoint that it goes to.
    pub(super) fn rows(&self, tenant: TenantSeq, event: &NewEvent) -> usize {
        let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned();
        1 + routes.map_or(0, |routes| routes.matching(event).count())
    }
}

/// The verdict on an event for an endpoint that it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteVerdict {
    Deliver,
    /// The delivery is stored as skipped, for this reason.
    Skip(&'static str),
}

#[derive(Debug)]
pub(super) struct Route {
    endpoint: i64,
    patterns: Vec<Pattern>,
    /// Empty: events of all channels and without a channel.
    channels: Vec<String>,
    verdict: RouteVerdict,
}

impl Routes {
    pub(super) fn new(fan_out: FanOut, quotas: TenantQuotas) -> Self {
        Self { loaded: HashMap::new(), touched: Vec::new(), fan_out, quotas }
    }

    /// Sets the limits of tenants that have none of their own.
    pub(super) fn set_quotas(&mut self, quotas: TenantQuotas) {
        self.quotas = quotas;
        // The loaded policies have the old limits.
        self.loaded.clear();
    }

    /// Discards the routes of a tenant. Must be called after each change of the tenant.
    pub(super) fn invalidate(&mut self, tenant: TenantSeq) {
        self.loaded.remove(&tenant);
        self.touched.push(tenant);
    }

    /// Follows the change of an endpoint. Must be called after each change, also after its creation or deletion.
    ///
    /// Reads that endpoint only: a tenant with many endpoints that changes one of them again and again must not make the
    /// writer load all of them for each event.
    pub(super) fn follow(
        &mut self,
        connection: &Connection,
        tenant: TenantSeq,
        endpoint: i64,
    ) -> Result<(), StoreError> {
        self.touched.push(tenant);
        let Some(known) = self.loaded.get(&tenant) else { return Ok(()) };
        let mut statement = connection.prepare_cached(&format!("{SELECT} AND seq = ?2"))?;
        let changed = statement.query_and_then(params![tenant, endpoint], Route::read)?.next().transpose()?;
        let mut routes = known.routes.clone();
        match (routes.binary_search_by_key(&endpoint, |route| route.endpoint), changed) {
            (Ok(at), Some(changed)) => routes[at] = Arc::new(changed),
            (Ok(at), None) => drop(routes.remove(at)),
            (Err(at), Some(new)) => routes.insert(at, Arc::new(new)),
            (Err(_), None) => {}
        }
        let routes = TenantRoutes { policy: known.policy.clone(), routes };
        self.keep(tenant, &Arc::new(routes));
        Ok(())
    }

    fn keep(&mut self, tenant: TenantSeq, routes: &Arc<TenantRoutes>) {
        self.loaded.insert(tenant, Arc::clone(routes));
        self.fan_out.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, Arc::clone(routes));
    }

    /// Begins a commit.
    pub(super) fn begin(&mut self) {
        self.touched.clear();
    }

    /// Returns the state to which a job that fails is undone.
    pub(super) fn mark(&self) -> usize {
        self.touched.len()
    }

    /// Discards the routes that were loaded since `mark`, because the endpoints that they were loaded from are not stored.
    /// The routes of other tenants stay: a request that is refused must not make the writer load them again.
    pub(super) fn back_to(&mut self, mark: usize) {
        for tenant in self.touched.drain(mark..) {
            self.loaded.remove(&tenant);
        }
    }

    /// Discards the routes of a deleted tenant, and its estimates.
    pub(super) fn forget(&mut self, tenant: TenantSeq) {
        self.invalidate(tenant);
        self.fan_out.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }

    /// Returns the settings of a tenant, with those of relay in place of absent ones.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`] if the tenant does not exist.
    pub(super) fn policy(
        &self,
        connection: &Connection,
        tenant: TenantSeq,
    ) -> Result<TenantPolicy, StoreError> {
        Ok(tenants::policy_of(connection, tenant)?.inherit(&self.quotas))
    }

    /// Returns the routes of a tenant.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`] if the tenant does not exist.
    pub(super) fn of(
        &mut self,
        connection: &Connection,
        tenant: TenantSeq,
    ) -> Result<Arc<TenantRoutes>, StoreError> {
        if let Some(routes) = self.loaded.get(&tenant) {
            return Ok(Arc::clone(routes));
        }
        let policy = self.policy(connection, tenant)?;
        let routes = Arc::new(TenantRoutes { policy, routes: load(connection, tenant)? });
        self.touched.push(tenant);
        self.keep(tenant, &routes);
        Ok(routes)
    }
}

/// The endpoints and the settings of a tenant.
#[derive(Debug)]
pub(super) struct TenantRoutes {
    /// With the settings of relay in place of absent ones.
    pub(super) policy: TenantPolicy,
    /// In the order of their creation.
    routes: Vec<Arc<Route>>,
}

impl TenantRoutes {
    /// Returns the endpoints that an event goes to.
    pub(super) fn matching(&self, event: &NewEvent) -> impl Iterator<Item = (i64, RouteVerdict)> {
        self.routes.iter().filter(|route| route.takes(event)).map(|route| (route.endpoint, route.verdict))
    }

    /// The endpoints, also those that are disabled.
    pub(super) fn endpoints(&self) -> impl ExactSizeIterator<Item = i64> {
        self.routes.iter().map(|route| route.endpoint)
    }
}

impl Route {
    fn takes(&self, event: &NewEvent) -> bool {
        let has_channel = || self.channels.iter().any(|channel| event.channels.contains(channel));
        self.patterns.iter().any(|pattern| pattern.matches(&event.event_type))
            && (self.channels.is_empty() || has_channel())
    }

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
        let verdict = match (row.get(3)?, HoldReason::read(row.get(4)?)) {
            (false, _) => RouteVerdict::Skip("the endpoint is disabled"),
            (true, Some(HoldReason::Gone)) => RouteVerdict::Skip("the receiver is gone"),
            (true, Some(HoldReason::Failing) | None) => RouteVerdict::Deliver,
        };
        Ok(Self {
            endpoint: row.get(0)?,
            patterns: parse_patterns(text(1)?)?,
            channels: split(text(2)?),
            verdict,
        })
    }
}

const SELECT: &str = "SELECT seq, patterns, channels, enabled, held FROM endpoints
     WHERE tenant_seq = ?1 AND deleted_at IS NULL";

fn load(connection: &Connection, tenant: TenantSeq) -> Result<Vec<Arc<Route>>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY seq"))?;
    let rows = statement.query_and_then([tenant], |row| Route::read(row).map(Arc::new))?;
    rows.collect()
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

/// Splits the stored form of a list of names, which contain no space.
pub(super) fn split(stored: &str) -> Vec<String> {
    stored.split_ascii_whitespace().map(ToOwned::to_owned).collect()
}
