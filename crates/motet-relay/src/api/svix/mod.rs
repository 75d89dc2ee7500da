//! The API under `/api/v1`: the routes, bodies and errors that the published clients of Svix expect.
//!
//! An application is a tenant, a message is an event, and an event type is an entry of a catalogue that refuses nothing.
//! The module only translates: it calls the same functions of the store as `/v1`. A field that relay cannot obey is
//! refused with its name, and a route that relay does not have answers 501 in JSON.

mod apps;
mod attempts;
mod content;
mod endpoints;
mod error;
mod event_types;
mod extract;
mod headers;
mod messages;
mod portal;
mod replays;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::routing::{get, post};
use http::StatusCode;

use self::error::SvixError;
pub(super) use self::error::{ErrorView, ValidationView, translate_errors};
pub(super) use self::extract::{APP, hide_other_apps};
pub(super) use self::messages::MessageIn;
pub(super) use self::portal::{AccessIn, ExpireIn};
use super::openapi::{ServedDocument, svix as docs};
use super::routes::{Access, Methods, RouteTable};
use super::{ApiState, chain, problem};
use crate::access::KeyScope::{Admin, Manage, Publish, Read, Replay, Secrets};

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

/// Returns the routes that need an API key, each with the scope that it needs.
pub(super) fn table(api: Arc<ApiState>) -> RouteTable {
    let all_apps = Access::of_relay;
    RouteTable::new(api)
        .of_svix(
            "/app",
            Methods::new().get(all_apps(Admin), apps::list, docs::list_apps()).post(
                all_apps(Admin),
                apps::create,
                docs::create_app(),
            ),
        )
        .of_svix(
            "/app/{app}",
            Methods::new()
                .get(Read, apps::read, docs::read_app())
                .put(all_apps(Admin), apps::put, docs::put_app())
                .patch(all_apps(Admin), apps::patch, docs::patch_app())
                .delete(all_apps(Admin), apps::delete, docs::delete_app()),
        )
        // The catalogue belongs to all applications.
        .of_svix(
            "/event-type",
            Methods::new().get(Read, event_types::list, docs::list_event_types()).post(
                all_apps(Manage),
                event_types::create,
                docs::create_event_type(),
            ),
        )
        .of_svix(
            "/event-type/{name}",
            Methods::new()
                .get(Read, event_types::read, docs::read_event_type())
                .put(all_apps(Manage), event_types::put, docs::put_event_type())
                .patch(all_apps(Manage), event_types::patch, docs::patch_event_type())
                .delete(all_apps(Manage), event_types::delete, docs::delete_event_type()),
        )
        .of_svix(
            "/app/{app}/endpoint",
            Methods::new().get(Read, endpoints::list, docs::list_endpoints()).post(
                Manage,
                endpoints::create,
                docs::create_endpoint(),
            ),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}",
            Methods::new()
                .get(Read, endpoints::read, docs::read_endpoint())
                .put(Manage, endpoints::put, docs::put_endpoint())
                .patch(Manage, endpoints::patch, docs::patch_endpoint())
                .delete(Manage, endpoints::delete, docs::delete_endpoint()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/secret",
            Methods::new().get(Secrets, endpoints::secret, docs::read_secret()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/secret/rotate",
            Methods::new().post(Secrets, endpoints::rotate, docs::rotate_secret()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/headers",
            Methods::new()
                .get(Read, headers::read, docs::read_headers())
                .put(Manage, headers::put, docs::put_headers())
                .patch(Manage, headers::patch, docs::patch_headers()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/stats",
            Methods::new().get(Read, endpoints::stats, docs::stats()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/attempt-stats",
            Methods::new().get(Read, endpoints::attempt_stats, docs::attempt_stats()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/recover",
            Methods::new().post(Replay, replays::recover, docs::recover()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/replay-missing",
            Methods::new().post(Replay, replays::replay_missing, docs::replay_missing()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/bulk-replay",
            Methods::new().post(Replay, replays::bulk_replay, docs::bulk_replay()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/send-example",
            Methods::new().post(Publish, content::send_example, docs::send_example()),
        )
        .of_svix(
            "/app/{app}/endpoint/{endpoint}/msg",
            Methods::new().get(Read, messages::list_of_endpoint, docs::messages_of_endpoint()),
        )
        .of_svix(
            "/app/{app}/msg",
            Methods::new().get(Read, messages::list, docs::list_messages()).post(
                Publish,
                messages::create,
                docs::create_message(),
            ),
        )
        .of_svix(
            "/app/{app}/msg/precheck/active",
            Methods::new().post(Read, messages::precheck, docs::precheck()),
        )
        .of_svix(
            "/app/{app}/msg/expunge-all-contents",
            Methods::new().post(Manage, content::expunge_all, docs::expunge_all()),
        )
        .of_svix(
            "/app/{app}/msg/bulk-expunge",
            Methods::new().post(Manage, content::bulk_expunge, docs::bulk_expunge()),
        )
        .of_svix("/app/{app}/msg/{msg}", Methods::new().get(Read, messages::read, docs::read_message()))
        .of_svix(
            "/app/{app}/msg/{msg}/content",
            Methods::new().delete(Manage, content::expunge_message, docs::expunge_message()),
        )
        .of_svix(
            "/app/{app}/msg/{msg}/endpoint",
            Methods::new().get(Read, messages::destinations, docs::destinations()),
        )
        .of_svix(
            "/app/{app}/msg/{msg}/endpoint/{endpoint}/resend",
            Methods::new().post(Replay, messages::resend, docs::resend()),
        )
        .of_svix(
            "/app/{app}/msg/{msg}/attempt",
            Methods::new().get(
                Read,
                attempts::list_of_message,
                docs::attempts_of_message("v1.message-attempt.list-by-msg-deprecated"),
            ),
        )
        .of_svix(
            "/app/{app}/msg/{msg}/attempt/{attempt}",
            Methods::new().get(Read, attempts::read, docs::read_attempt()),
        )
        .of_svix(
            "/app/{app}/msg/{msg}/attempt/{attempt}/content",
            Methods::new().delete(Manage, content::expunge_attempt, docs::expunge_attempt()),
        )
        .of_svix(
            "/app/{app}/attempt/msg/{msg}",
            Methods::new().get(
                Read,
                attempts::list_of_message,
                docs::attempts_of_message("v1.message-attempt.list-by-msg"),
            ),
        )
        .of_svix(
            "/app/{app}/attempt/endpoint/{endpoint}",
            Methods::new().get(Read, attempts::list_of_endpoint, docs::attempts_of_endpoint()),
        )
        .of_svix(
            "/auth/app-portal-access/{app}",
            Methods::new().post(
                Admin,
                portal::access,
                docs::portal_access("v1.authentication.app-portal-access"),
            ),
        )
        .of_svix(
            "/auth/dashboard-access/{app}",
            Methods::new().post(
                Admin,
                portal::access,
                docs::portal_access("v1.authentication.dashboard-access"),
            ),
        )
        .of_svix(
            "/auth/app/{app}/expire-all",
            Methods::new().post(Admin, portal::expire_all, docs::expire_all()),
        )
        .of_svix("/background-task", Methods::new().get(Read, replays::list_tasks, docs::list_tasks()))
        .of_svix("/background-task/{task}", Methods::new().get(Read, replays::read_task, docs::read_task()))
}

/// Adds the routes to those of relay.
pub(super) fn add_routes(router: Router<Arc<ApiState>>, api: &Arc<ApiState>) -> Router<Arc<ApiState>> {
    let table = table(Arc::clone(api));
    let document = ServedDocument::new(&docs::API, table.rows().to_vec(), docs::open_routes());
    let routes = table
        .into_router()
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(no_such_path)
        .layer(chain::around_api(api));
    // The token of a session is not an API key.
    let open = Router::new()
        .route("/openapi.json", get(async move || document.response()))
        .route("/health", get(health))
        .route("/health/", get(health))
        .route("/auth/logout", post(portal::logout))
        .route("/auth/logout/", post(portal::logout))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(chain::around_open(Arc::clone(&api.readiness)));
    let routes = routes.merge(open);
    PREFIXES
        .into_iter()
        .fold(router, |router, prefix| router.nest(prefix, routes.clone()))
        .route(portal::PATH, get(portal::page))
}

async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn no_such_path(OriginalUri(uri): OriginalUri) -> SvixError {
    let mut segments = uri.path().split('/').skip_while(|segment| *segment != "v1").skip(1);
    if segments.any(|segment| NOT_IMPLEMENTED.contains(&segment)) {
        return SvixError::not_implemented(uri.path());
    }
    problem::no_such_path(OriginalUri(uri)).await.into()
}
