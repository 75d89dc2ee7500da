//! The table of the routes that need an API key: each method of a path with the scope that it needs.
//!
//! The router and the OpenAPI documents are built from the table, so a route without a scope or without a description
//! cannot be written down. The tests request every row with every scope.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;
use motet::middleware::{Chain, Next, with_state};
use motet_http::bridge;

use super::ApiState;
use super::auth::Principal;
use super::openapi::{Described, Operation};
use super::problem::Problem;
use super::svix::{APP, hide_other_apps};
use super::tenant::hide_other_tenants;
use crate::access::KeyScope;

/// The beginning of the paths that name a tenant.
pub(super) const TENANT: &str = "/tenants/{tenant}";

/// The rights that a route needs of the sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) scope: KeyScope,
    pub(super) reach: Reach,
}

/// Whose resources a route reads or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those of one tenant. The handler answers another tenant's id with 404.
    Tenant,
    /// Those of all tenants, so a key of one tenant is refused.
    Relay,
}

/// The sender needs `scope`; the handler looks at the sender's tenant.
impl From<KeyScope> for Access {
    fn from(scope: KeyScope) -> Self {
        Self { scope, reach: Reach::Tenant }
    }
}

impl Access {
    /// The sender needs `scope` and a key of all tenants.
    pub(super) const fn of_relay(scope: KeyScope) -> Self {
        Self { scope, reach: Reach::Relay }
    }

    fn check(self, principal: &Principal) -> Result<(), Problem> {
        principal.require(self.scope)?;
        match self.reach {
            Reach::Tenant => Ok(()),
            Reach::Relay => principal.require_all_tenants(),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteRow {
    pub(super) method: Method,
    /// As in the router, with the parts that vary in braces.
    pub(super) path: String,
    pub(super) access: Access,
    pub(super) operation: Arc<Operation>,
}

/// A method of a path.
#[derive(Debug, Clone)]
struct MethodRow {
    method: Method,
    access: Access,
    operation: Arc<Operation>,
}

/// The methods of a path, each with its access and its description.
pub(super) struct Methods<S> {
    router: MethodRouter<S>,
    rows: Vec<MethodRow>,
}

impl<S: Clone + Send + Sync + 'static> Methods<S> {
    pub(super) fn new() -> Self {
        Self { router: MethodRouter::new(), rows: Vec::new() }
    }

    pub(super) fn get<T: 'static, A>(
        self,
        access: impl Into<Access>,
        handler: impl Handler<T, S> + Described<A>,
        operation: Operation,
    ) -> Self {
        self.guarded((Method::GET, MethodFilter::GET), access.into(), handler, operation)
    }

    pub(super) fn post<T: 'static, A>(
        self,
        access: impl Into<Access>,
        handler: impl Handler<T, S> + Described<A>,
        operation: Operation,
    ) -> Self {
        self.guarded((Method::POST, MethodFilter::POST), access.into(), handler, operation)
    }

    pub(super) fn put<T: 'static, A>(
        self,
        access: impl Into<Access>,
        handler: impl Handler<T, S> + Described<A>,
        operation: Operation,
    ) -> Self {
        self.guarded((Method::PUT, MethodFilter::PUT), access.into(), handler, operation)
    }

    pub(super) fn patch<T: 'static, A>(
        self,
        access: impl Into<Access>,
        handler: impl Handler<T, S> + Described<A>,
        operation: Operation,
    ) -> Self {
        self.guarded((Method::PATCH, MethodFilter::PATCH), access.into(), handler, operation)
    }

    pub(super) fn delete<T: 'static, A>(
        self,
        access: impl Into<Access>,
        handler: impl Handler<T, S> + Described<A>,
        operation: Operation,
    ) -> Self {
        self.guarded((Method::DELETE, MethodFilter::DELETE), access.into(), handler, operation)
    }

    fn guarded<T: 'static, A>(
        mut self,
        (method, filter): (Method, MethodFilter),
        access: Access,
        handler: impl Handler<T, S> + Described<A>,
        operation: Operation,
    ) -> Self {
        let operation = Arc::new(operation.of_handler(&handler));
        let guard = bridge::layer(Chain::new().with(with_state(access, require)));
        self.router = self.router.merge(MethodRouter::new().on(filter, handler).route_layer(guard));
        self.rows.push(MethodRow { method, access, operation });
        self
    }

    /// Provides the state of handlers that have one of their own.
    pub(super) fn with_state<T>(self, state: S) -> Methods<T> {
        Methods { router: self.router.with_state(state), rows: self.rows }
    }
}

/// The routes, and the rows that describe them.
pub(super) struct RouteTable {
    api: Arc<ApiState>,
    router: Router<Arc<ApiState>>,
    rows: Vec<RouteRow>,
}

impl RouteTable {
    pub(super) fn new(api: Arc<ApiState>) -> Self {
        Self { api, router: Router::new(), rows: Vec::new() }
    }

    /// Adds the resources of a tenant: as `path`, and as `/tenants/{tenant}` with `path`.
    pub(super) fn of_tenant(self, path: &str, methods: Methods<Arc<ApiState>>) -> Self {
        let again = Methods { router: methods.router.clone(), rows: methods.rows.clone() };
        self.route(path, methods).route(&format!("{TENANT}{path}"), again)
    }

    /// Adds a route of Svix's clients, with and without a slash at its end. Its tenant is `{app}`.
    pub(super) fn of_svix(self, path: &str, methods: Methods<Arc<ApiState>>) -> Self {
        let Methods { mut router, rows } = methods;
        if path.contains(APP) {
            let hide = with_state(Arc::clone(&self.api), hide_other_apps);
            router = router.route_layer(bridge::layer(Chain::new().with(hide)));
        }
        let again = Methods { router: router.clone(), rows: rows.clone() };
        self.route(path, Methods { router, rows }).route(&format!("{path}/"), again)
    }

    /// Adds a route.
    pub(super) fn route(mut self, path: &str, methods: Methods<Arc<ApiState>>) -> Self {
        let Methods { mut router, rows } = methods;
        if path.starts_with(TENANT) {
            let hide = with_state(Arc::clone(&self.api), hide_other_tenants);
            router = router.route_layer(bridge::layer(Chain::new().with(hide)));
        }
        self.router = self.router.route(path, router);
        let row = |MethodRow { method, access, operation }| RouteRow {
            method,
            path: path.to_owned(),
            access,
            operation,
        };
        self.rows.extend(rows.into_iter().map(row));
        self
    }

    pub(super) fn into_router(self) -> Router<Arc<ApiState>> {
        self.router
    }

    pub(super) fn rows(&self) -> &[RouteRow] {
        &self.rows
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rows).finish()
    }
}

/// Middleware: refuses a sender without the access that a route needs.
async fn require(access: Access, request: Request, next: Next<Request, Response>) -> Response {
    let sender = request.extensions().get::<Principal>();
    let allowed = sender.map_or_else(|| Err(Problem::unauthenticated()), |sender| access.check(sender));
    match allowed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
