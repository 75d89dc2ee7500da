//! The HTTP API: the API under `/v1`, health, metrics, and the page at `/`.
//!
//! It only translates between HTTP and the store: no scheduling and no SQL here.

mod auth;
mod backups;
mod body;
mod chain;
mod cors;
mod deliveries;
mod drain;
mod endpoints;
mod erasures;
mod events;
mod extract;
mod feed;
mod filters;
mod health;
#[cfg(test)]
mod held_bodies;
mod keys;
#[cfg(test)]
mod matrix;
mod memory;
mod names;
mod openapi;
mod page;
mod paging;
mod patch;
mod pause;
mod problem;
mod rekey;
mod replays;
mod request_id;
mod retention;
mod routes;
mod secrets;
mod shares;
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
use self::cors::Cors;
pub(crate) use self::feed::FeedSlots;
use self::feed::FeedState;
pub(crate) use self::memory::MemoryBudget;
use self::openapi::{ServedDocument, v1 as docs};
use self::routes::{Access, Methods, RouteTable};
pub(crate) use self::shares::TenantBulkheads;
use crate::access::KeyScope::{Admin, Manage, Publish, Read, Replay, Secrets};
use crate::config::Config;
use crate::guard::AddressGuard;
use crate::lifecycle::Lifecycle;
use crate::parts::part;
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
    pub(crate) reads: Arc<TenantBulkheads>,
}

/// Returns the routes under `/v1`, each with the scope that it needs and its description.
fn v1(feed: FeedState) -> RouteTable {
    let all_tenants = Access::of_relay;
    RouteTable::new(Arc::clone(&feed.api))
        .of_tenant(
            "/events",
            Methods::new().post(Publish, events::publish, docs::publish()).get(
                Read,
                events::list,
                docs::list_events(),
            ),
        )
        .of_tenant(
            "/events/feed",
            Methods::new().get(Read, feed::open, docs::follow_events()).with_state(feed),
        )
        .of_tenant("/events/erase", Methods::new().post(Manage, erasures::begin, docs::erase_events()))
        .route("/erasures/{id}", Methods::new().get(Read, erasures::read, docs::read_erasure()))
        .of_tenant("/events/{id}", Methods::new().get(Read, events::read, docs::read_event()))
        .of_tenant("/events/{id}/data", Methods::new().delete(Manage, events::erase, docs::erase_event()))
        .of_tenant(
            "/endpoints",
            Methods::new().post(Manage, endpoints::create, docs::create_endpoint()).get(
                Read,
                endpoints::list,
                docs::list_endpoints(),
            ),
        )
        .of_tenant(
            "/endpoints/{id}",
            Methods::new()
                .get(Read, endpoints::read, docs::read_endpoint())
                .patch(Manage, endpoints::update, docs::update_endpoint())
                .delete(Manage, endpoints::delete, docs::delete_endpoint()),
        )
        .of_tenant(
            "/endpoints/{id}/secret",
            Methods::new().get(Secrets, secrets::read, docs::read_secret()).post(
                Secrets,
                secrets::rotate,
                docs::rotate_secret(),
            ),
        )
        .of_tenant(
            "/endpoints/{id}/pause",
            Methods::new().post(Manage, endpoints::pause, docs::pause_endpoint()),
        )
        .of_tenant(
            "/endpoints/{id}/resume",
            Methods::new().post(Manage, endpoints::resume, docs::resume_endpoint()),
        )
        .of_tenant("/deliveries", Methods::new().get(Read, deliveries::list, docs::list_deliveries()))
        .of_tenant("/deliveries/{id}", Methods::new().get(Read, deliveries::read, docs::read_delivery()))
        .of_tenant("/deliveries/{id}/resend", Methods::new().post(Replay, deliveries::resend, docs::resend()))
        .of_tenant("/dead-letters", Methods::new().get(Read, deliveries::list_dead, docs::list_dead()))
        .of_tenant("/dead-letters/redrive", Methods::new().post(Replay, deliveries::redrive, docs::redrive()))
        .of_tenant(
            "/replays",
            Methods::new().post(Replay, replays::create, docs::create_replay()).get(
                Read,
                replays::list,
                docs::list_replays(),
            ),
        )
        .of_tenant("/replays/{id}", Methods::new().get(Read, replays::read, docs::read_replay()))
        .of_tenant(
            "/replays/{id}/cancel",
            Methods::new().post(Replay, replays::cancel, docs::cancel_replay()),
        )
        .route("/tenants", Methods::new().get(all_tenants(Admin), tenants::list, docs::list_tenants()))
        // A tenant's own administrator may not raise its quotas, or end a pause of the operator.
        .route(
            "/tenants/{tenant}",
            Methods::new()
                .get(Admin, tenants::read, docs::read_tenant())
                .put(all_tenants(Admin), tenants::put, docs::put_tenant())
                .patch(all_tenants(Admin), tenants::update, docs::update_tenant())
                .delete(all_tenants(Admin), tenants::delete, docs::delete_tenant()),
        )
        .route(
            "/tenants/{tenant}/pause",
            Methods::new().post(all_tenants(Admin), tenants::pause, docs::pause_tenant()),
        )
        .route(
            "/tenants/{tenant}/resume",
            Methods::new().post(all_tenants(Admin), tenants::resume, docs::resume_tenant()),
        )
        .route(
            "/keys",
            Methods::new().post(Admin, keys::create, docs::create_key()).get(
                Admin,
                keys::list,
                docs::list_keys(),
            ),
        )
        .route("/keys/{id}", Methods::new().delete(Admin, keys::revoke, docs::revoke_key()))
        .route("/retention", Methods::new().get(all_tenants(Admin), retention::read, docs::read_retention()))
        .route(
            "/backups",
            Methods::new().post(all_tenants(Admin), backups::create, docs::create_backup()).get(
                all_tenants(Admin),
                backups::list,
                docs::list_backups(),
            ),
        )
        .route("/backups/{id}", Methods::new().get(all_tenants(Admin), backups::read, docs::read_backup()))
        .route(
            "/rekey",
            Methods::new().post(all_tenants(Admin), rekey::start, docs::start_rekey()).get(
                all_tenants(Admin),
                rekey::read,
                docs::read_rekey(),
            ),
        )
        .route("/pause", Methods::new().post(all_tenants(Admin), pause::pause, docs::pause_all()))
        .route("/resume", Methods::new().post(all_tenants(Admin), pause::resume, docs::resume_all()))
}

/// Returns the routes. Tasks that they start belong to `scope`; `stop` ends the feeds.
pub(crate) fn router(api: Arc<ApiState>, parts: Arc<Running>, scope: &Scope, stop: CancelToken) -> Router {
    let feed = FeedState { api: Arc::clone(&api), stop };
    let cors = Cors::new(&part::<Config>(&parts).cors_origins);
    let v1 = v1(feed);
    let document = ServedDocument::new(&docs::API, v1.rows().to_vec(), []);
    let v1 = v1
        .into_router()
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_path)
        .layer(chain::around_api(&api));
    let router = Router::new().nest("/v1", v1);
    svix::add_routes(router, &api)
        .route("/", get(page::show))
        .route("/openapi.json", get(async move || document.response()))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready).with_state(health::Readyz::new(scope, &api, parts)))
        .route("/metrics", get(health::metrics).with_state(health::Scrape::new(scope, &api)))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_path)
        .layer(chain::around_all(Arc::clone(&api.memory), cors))
        .with_state(api)
}

/// Returns the routes for clients that own the data directory: each request may do everything.
pub(crate) fn for_owner(router: Router) -> Router {
    router.layer(Extension(Principal::Control))
}
