//! The API under `/api/v1`: the routes, bodies and errors that the published clients of Svix expect.
//!
//! An application is a tenant, a message is an event, and an event type is an entry of a catalogue that refuses nothing.
//! The module only translates: it calls the same functions of the store as `/v1`. A field that relay cannot obey is
//! refused with its name, and a route that relay does not have answers 501 in JSON.

mod apps;
mod attempts;
mod endpoints;
mod error;
mod event_types;
mod extract;
mod headers;
mod messages;
mod portal;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::routing::{MethodRouter, delete, get, post};
use http::StatusCode;

use self::error::SvixError;
pub(super) use self::error::translate_errors;
use super::{ApiState, chain, problem};

/// The paths of the API. Clients of the versions 1.x that are given a server URL with a slash at its end send two.
const PREFIXES: [&str; 2] = ["/api/v1", "//api/v1"];

/// Names of resources that relay does not have; a segment of a path.
const NOT_IMPLEMENTED: [&str; 18] = [
    "autoconfig",
    "connector",
    "destination",
    "environment",
    "export",
    "import",
    "ingest",
    "integration",
    "mtls-config",
    "oauth-config",
    "operational-webhook",
    "poller",
    "sink",
    "statistics",
    "stream",
    "streaming",
    "transformation",
    "transformation-template",
];

/// Adds the routes to those of relay.
pub(super) fn add_routes(router: Router<Arc<ApiState>>, api: &Arc<ApiState>) -> Router<Arc<ApiState>> {
    let routes = Routes(Router::new())
        .add("/app", get(apps::list).post(apps::create))
        .add("/app/{app}", get(apps::read).put(apps::put).patch(apps::patch).delete(apps::delete))
        .add("/event-type", get(event_types::list).post(event_types::create))
        .add(
            "/event-type/{name}",
            get(event_types::read)
                .put(event_types::put)
                .patch(event_types::patch)
                .delete(event_types::delete),
        )
        .add("/app/{app}/endpoint", get(endpoints::list).post(endpoints::create))
        .add(
            "/app/{app}/endpoint/{endpoint}",
            get(endpoints::read).put(endpoints::put).patch(endpoints::patch).delete(endpoints::delete),
        )
        .add("/app/{app}/endpoint/{endpoint}/secret", get(endpoints::secret))
        .add("/app/{app}/endpoint/{endpoint}/secret/rotate", post(endpoints::rotate))
        .add(
            "/app/{app}/endpoint/{endpoint}/headers",
            get(headers::read).put(headers::put).patch(headers::patch),
        )
        .add("/app/{app}/endpoint/{endpoint}/stats", get(endpoints::stats))
        .add("/app/{app}/endpoint/{endpoint}/attempt-stats", get(endpoints::attempt_stats))
        .add("/app/{app}/endpoint/{endpoint}/recover", post(not_implemented))
        .add("/app/{app}/endpoint/{endpoint}/replay-missing", post(not_implemented))
        .add("/app/{app}/endpoint/{endpoint}/bulk-replay", post(not_implemented))
        .add("/app/{app}/endpoint/{endpoint}/send-example", post(not_implemented))
        .add("/app/{app}/endpoint/{endpoint}/msg", get(messages::list_of_endpoint))
        .add("/app/{app}/msg", get(messages::list).post(messages::create))
        .add("/app/{app}/msg/precheck/active", post(messages::precheck))
        .add("/app/{app}/msg/expunge-all-contents", post(not_implemented))
        .add("/app/{app}/msg/bulk-expunge", post(not_implemented))
        .add("/app/{app}/msg/{msg}", get(messages::read))
        .add("/app/{app}/msg/{msg}/content", delete(not_implemented))
        .add("/app/{app}/msg/{msg}/endpoint", get(messages::destinations))
        .add("/app/{app}/msg/{msg}/endpoint/{endpoint}/resend", post(messages::resend))
        .add("/app/{app}/msg/{msg}/attempt", get(attempts::list_of_message))
        .add("/app/{app}/msg/{msg}/attempt/{attempt}", get(attempts::read))
        .add("/app/{app}/msg/{msg}/attempt/{attempt}/content", delete(not_implemented))
        .add("/app/{app}/attempt/msg/{msg}", get(attempts::list_of_message))
        .add("/app/{app}/attempt/endpoint/{endpoint}", get(attempts::list_of_endpoint))
        .add("/auth/app-portal-access/{app}", post(portal::access))
        .add("/auth/dashboard-access/{app}", post(portal::access))
        .add("/auth/app/{app}/expire-all", post(portal::expire_all))
        .add("/background-task", get(portal::list_tasks))
        .add("/background-task/{task}", get(portal::read_task))
        .0
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(no_such_path)
        .layer(chain::around_svix(Arc::clone(&api.api_keys), Arc::clone(&api.readiness)));
    // The token of a session is not an API key.
    let open = Routes(Router::new())
        .add("/health", get(health))
        .add("/auth/logout", post(portal::logout))
        .0
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(chain::around_open(Arc::clone(&api.readiness)));
    let routes = routes.merge(open);
    PREFIXES
        .into_iter()
        .fold(router, |router, prefix| router.nest(prefix, routes.clone()))
        .route(portal::PATH, get(portal::page))
}

/// Routes, each with and without a slash at its end.
struct Routes(Router<Arc<ApiState>>);

impl Routes {
    fn add(self, path: &str, methods: MethodRouter<Arc<ApiState>>) -> Self {
        Self(self.0.route(path, methods.clone()).route(&format!("{path}/"), methods))
    }
}

async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn not_implemented(OriginalUri(uri): OriginalUri) -> SvixError {
    SvixError::not_implemented(uri.path())
}

async fn no_such_path(OriginalUri(uri): OriginalUri) -> SvixError {
    let mut segments = uri.path().split('/').skip_while(|segment| *segment != "v1").skip(1);
    if segments.any(|segment| NOT_IMPLEMENTED.contains(&segment)) {
        return SvixError::not_implemented(uri.path());
    }
    problem::no_such_path(OriginalUri(uri)).await.into()
}
