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
mod memory;
mod names;
mod page;
mod paging;
mod patch;
mod pause;
mod problem;
mod svix;
mod tenant;
mod tenants;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use motet::container::Running;
use motet::task::{CancelToken, Scope};
use motet_http::{Readiness, Server};

pub(crate) use self::auth::ApiKeys;
pub(crate) use self::feed::FeedSlots;
use self::feed::FeedState;
pub(crate) use self::memory::MemoryBudget;
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

/// Returns the routes. Tasks that they start belong to `scope`; `stop` ends the feeds.
pub(crate) fn router(api: Arc<ApiState>, parts: Arc<Running>, scope: &Scope, stop: CancelToken) -> Router {
    let feed = FeedState { api: Arc::clone(&api), stop };
    let v1 = Router::new()
        .merge(of_tenant(feed.clone()))
        .route("/tenants", get(tenants::list))
        .route(
            "/tenants/{tenant}",
            get(tenants::read).put(tenants::put).patch(tenants::update).delete(tenants::delete),
        )
        .route("/tenants/{tenant}/pause", post(tenants::pause))
        .route("/tenants/{tenant}/resume", post(tenants::resume))
        .nest("/tenants/{tenant}", of_tenant(feed))
        .route("/pause", post(pause::pause))
        .route("/resume", post(pause::resume))
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

/// Returns the routes of a tenant's resources: under `/v1` for the tenant of the request, and under
/// `/v1/tenants/{tenant}`.
fn of_tenant(feed: FeedState) -> Router<Arc<ApiState>> {
    Router::new()
        .route("/events", post(events::publish).get(events::list))
        .route("/events/feed", get(feed::open).with_state(feed))
        .route("/events/{id}", get(events::read))
        .route("/endpoints", post(endpoints::create).get(endpoints::list))
        .route("/endpoints/{id}", get(endpoints::read).patch(endpoints::update).delete(endpoints::delete))
        .route("/endpoints/{id}/pause", post(endpoints::pause))
        .route("/endpoints/{id}/resume", post(endpoints::resume))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/{id}", get(deliveries::read))
        .route("/deliveries/{id}/resend", post(deliveries::resend))
        .route("/dead-letters", get(deliveries::list_dead))
        .route("/dead-letters/redrive", post(deliveries::redrive))
        .method_not_allowed_fallback(problem::method_not_allowed)
}
