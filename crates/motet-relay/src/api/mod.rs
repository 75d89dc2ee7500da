//! The HTTP API: the API under `/v1`, health, metrics, and the page at `/`.
//!
//! It only translates between HTTP and the store: no scheduling and no SQL here.

mod auth;
mod body;
mod chain;
mod deliveries;
mod endpoints;
mod events;
mod extract;
mod feed;
mod filters;
mod health;
mod keys;
#[cfg(test)]
mod matrix;
mod memory;
mod names;
mod page;
mod paging;
mod patch;
mod pause;
mod problem;
mod routes;
mod svix;
mod tenant;
mod tenants;
mod views;

use std::sync::Arc;

use axum::routing::get;
use axum::{Extension, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use motet::container::Running;
use motet::task::{CancelToken, Scope};
use motet_http::{Readiness, Server};

pub(crate) use self::auth::ApiKeys;
use self::auth::Principal;
pub(crate) use self::feed::FeedSlots;
use self::feed::FeedState;
pub(crate) use self::memory::MemoryBudget;
use self::routes::{Access, Methods, RouteTable};
use crate::access::KeyScope::{Admin, Manage, Publish, Read, Replay};
use crate::guard::AddressGuard;
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// The state of the handlers.
#[derive(Debug)]
pub(crate) struct ApiState {
    pub(crate) store: Store,
    pub(crate) api_keys: Arc<ApiKeys>,
    pub(crate) guard: Arc<AddressGuard>,
    pub(crate) metrics: Arc<PrometheusHandle>,
    /// Ready until the shutdown begins; then new events are refused.
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) server: Arc<Server>,
    pub(crate) feeds: Arc<FeedSlots>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) memory: Arc<MemoryBudget>,
}

/// Returns the routes under `/v1`, each with the scope that it needs.
fn v1(feed: FeedState) -> RouteTable {
    let all_tenants = Access::of_relay;
    RouteTable::new(Arc::clone(&feed.api))
        .of_tenant("/events", Methods::new().post(Publish, events::publish).get(Read, events::list))
        .of_tenant("/events/feed", Methods::new().get(Read, feed::open).with_state(feed))
        .of_tenant("/events/{id}", Methods::new().get(Read, events::read))
        .of_tenant("/endpoints", Methods::new().post(Manage, endpoints::create).get(Read, endpoints::list))
        .of_tenant(
            "/endpoints/{id}",
            Methods::new()
                .get(Read, endpoints::read)
                .patch(Manage, endpoints::update)
                .delete(Manage, endpoints::delete),
        )
        .of_tenant("/endpoints/{id}/pause", Methods::new().post(Manage, endpoints::pause))
        .of_tenant("/endpoints/{id}/resume", Methods::new().post(Manage, endpoints::resume))
        .of_tenant("/deliveries", Methods::new().get(Read, deliveries::list))
        .of_tenant("/deliveries/{id}", Methods::new().get(Read, deliveries::read))
        .of_tenant("/deliveries/{id}/resend", Methods::new().post(Replay, deliveries::resend))
        .of_tenant("/dead-letters", Methods::new().get(Read, deliveries::list_dead))
        .of_tenant("/dead-letters/redrive", Methods::new().post(Replay, deliveries::redrive))
        .route("/tenants", Methods::new().get(all_tenants(Admin), tenants::list))
        // A tenant's own administrator may not raise its quotas, or end a pause of the operator.
        .route(
            "/tenants/{tenant}",
            Methods::new()
                .get(Admin, tenants::read)
                .put(all_tenants(Admin), tenants::put)
                .patch(all_tenants(Admin), tenants::update)
                .delete(all_tenants(Admin), tenants::delete),
        )
        .route("/tenants/{tenant}/pause", Methods::new().post(all_tenants(Admin), tenants::pause))
        .route("/tenants/{tenant}/resume", Methods::new().post(all_tenants(Admin), tenants::resume))
        .route("/keys", Methods::new().post(Admin, keys::create).get(Admin, keys::list))
        .route("/keys/{id}", Methods::new().delete(Admin, keys::revoke))
        .route("/pause", Methods::new().post(all_tenants(Admin), pause::pause))
        .route("/resume", Methods::new().post(all_tenants(Admin), pause::resume))
}

/// Returns the routes. Tasks that they start belong to `scope`; `stop` ends the feeds.
pub(crate) fn router(api: Arc<ApiState>, parts: Arc<Running>, scope: &Scope, stop: CancelToken) -> Router {
    let feed = FeedState { api: Arc::clone(&api), stop };
    let v1 = v1(feed)
        .into_router()
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_path)
        .layer(chain::around_api(Arc::clone(&api.api_keys), Arc::clone(&api.readiness)));
    let router = Router::new().nest("/v1", v1);
    svix::add_routes(router, &api)
        .route("/", get(page::show))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready).with_state(health::Readyz::new(scope, &api, parts)))
        .route("/metrics", get(health::metrics).with_state(health::Scrape::new(scope, &api)))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_path)
        .layer(chain::around_all(Arc::clone(&api.memory)))
        .with_state(api)
}

/// Returns the routes for clients that own the data directory: each request may do everything.
pub(crate) fn for_owner(router: Router) -> Router {
    router.layer(Extension(Principal::Control))
}
