//! The HTTP edge: the API under `/v1`, health, metrics, and the page at `/`.
//!
//! It translates and nothing more: no scheduling and no SQL here.

mod auth;
mod body;
mod chain;
mod deliveries;
mod endpoints;
mod events;
mod extract;
mod feed;
mod health;
mod memory;
mod page;
mod paging;
mod problem;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use motet::container::Running;
use motet::task::{CancelToken, Scope};
use motet_http::{Readiness, Server};

pub(crate) use self::auth::Access;
pub(crate) use self::feed::FeedPlaces;
use self::feed::FeedState;
pub use self::feed::Feeds;
pub(crate) use self::memory::Memory;
use crate::guard::AddressGuard;
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// What the handlers work with.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) store: Store,
    pub(crate) access: Arc<Access>,
    pub(crate) guard: Arc<AddressGuard>,
    pub(crate) metrics: Arc<PrometheusHandle>,
    /// Ready until the shutdown begins; then nothing new is taken in.
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) server: Arc<Server>,
    pub(crate) feeds: Arc<FeedPlaces>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) memory: Arc<Memory>,
}

/// What the routes start is tasks of `scope`; `stop` ends what has no end of its own.
pub(crate) fn router(app: Arc<Edge>, parts: Arc<Running>, scope: &Scope, stop: CancelToken) -> Router {
    let feed = FeedState { edge: Arc::clone(&app), stop };
    let v1 = Router::new()
        .route("/events", post(events::publish).get(events::list))
        .route("/events/feed", get(feed::open).with_state(feed))
        .route("/events/{id}", get(events::read))
        .route("/endpoints", post(endpoints::create).get(endpoints::list))
        .route("/endpoints/{id}", get(endpoints::read).patch(endpoints::update).delete(endpoints::delete))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/{id}", get(deliveries::read))
        .route("/deliveries/{id}/resend", post(deliveries::resend))
        .route("/dead-letters", get(deliveries::list_dead))
        .route("/dead-letters/redrive", post(deliveries::redrive))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_path)
        .layer(chain::around_api(Arc::clone(&app.access), Arc::clone(&app.readiness)));
    Router::new()
        .nest("/v1", v1)
        .route("/", get(page::show))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready).with_state(health::Readyz::new(scope, &app, parts)))
        .route("/metrics", get(health::metrics).with_state(health::Scrape::new(scope, &app)))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_path)
        .layer(chain::around_all(Arc::clone(&app.memory)))
        .with_state(app)
}
