//! The middleware of all requests, as chains.
//!
//! ```text
//! everything: identify > count > allow_origins > drain_refused > translate_errors > require_host > bound_answers >
//!             catch_panic
//! /v1:        no_store > refuse_when_crowded > refuse_deliveries > authenticate > refuse_when_stopping > share_reads > require > handler
//! ```

use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, HOST};
use http::{HeaderValue, Method, StatusCode, Version};
use motet::middleware::{Chain, Next, catch_panic_with, with_state};
use motet_http::bridge::{self, ChainLayer};
use motet_http::{Readiness, Reserved};

use super::auth::authenticate;
use super::cors::{Cors, allow_origins};
use super::drain::drain_refused;
use super::memory::{MemoryBudget, bound_answers};
use super::problem::Problem;
use super::request_id::identify;
use super::shares::share_reads;
use super::svix::translate_errors;
use super::{ApiKeys, ApiState, TenantBulkheads};

/// A chain as a layer of a router.
type Layer = ChainLayer<Request, Response>;

/// Returns the layer around all routes.
pub(super) fn around_all(memory: Arc<MemoryBudget>, cors: Option<Arc<Cors>>) -> Layer {
    let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug in relay; the log has the details");
    // `count` is outside of `catch_panic`, so a panic is counted as the response that it becomes.
    let chain = Chain::new().with(identify).with(count);
    let chain = match cors {
        Some(cors) => chain.with(with_state(cors, allow_origins)),
        None => chain,
    };
    let chain = chain
        .with(drain_refused)
        .with(translate_errors)
        .with(require_host)
        .with(with_state(memory, bound_answers));
    bridge::layer(chain.with(catch_panic_with(move |panicked| bug(panicked).into_response())))
}

/// Returns the layer around the routes of the API.
pub(super) fn around_api(api: &ApiState) -> Layer {
    api_chain(Arc::clone(&api.api_keys), Arc::clone(&api.readiness), Arc::clone(&api.reads))
}

fn api_chain(api_keys: Arc<ApiKeys>, readiness: Arc<Readiness>, reads: Arc<TenantBulkheads>) -> Layer {
    let chain = Chain::new().with(no_store).with(refuse_when_crowded).with(refuse_deliveries);
    let chain = chain.with(with_state(api_keys, authenticate));
    let chain = chain.with(with_state(readiness, refuse_when_stopping));
    bridge::layer(chain.with(with_state(reads, share_reads)))
}

/// Returns the layer around routes that need no API key.
pub(super) fn around_open(readiness: Arc<Readiness>) -> Layer {
    let chain = Chain::new().with(no_store).with(refuse_when_crowded);
    bridge::layer(chain.with(with_state(readiness, refuse_when_stopping)))
}

/// Refuses a request on one of the connections that are reserved for health checks and metrics.
async fn refuse_when_crowded(request: Request, next: Next<Request, Response>) -> Response {
    if request.extensions().get::<Reserved>().is_some() {
        return Problem::unavailable(
            "relay has reached its limit of connections, and all of them are in use; nothing was stored; try again",
        )
        .into_response();
    }
    next.run(request).await
}

/// The headers with the id of an event in each delivery.
const DELIVERY_HEADERS: [&str; 2] = ["webhook-id", "svix-id"];

/// Refuses the deliveries of a relay: an endpoint whose URL is a route of the API, with a key in its headers, could make
/// deliveries that make further ones without an end.
async fn refuse_deliveries(request: Request, next: Next<Request, Response>) -> Response {
    match DELIVERY_HEADERS.into_iter().find(|name| request.headers().contains_key(*name)) {
        None => next.run(request).await,
        Some(name) => {
            let detail =
                format!("the request is a delivery of a relay, with {name}; deliveries cannot call the API");
            Problem::new(StatusCode::FORBIDDEN, detail).into_response()
        }
    }
}

/// Refuses all requests except reads during the shutdown, so that the client tries another server.
async fn refuse_when_stopping(
    readiness: Arc<Readiness>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    if readiness.is_stopping() && request.method() != Method::GET {
        return Problem::unavailable("relay is shutting down; nothing was stored; try again").into_response();
    }
    next.run(request).await
}

/// Refuses a request without a host or with two hosts: a proxy and relay could interpret it differently (RFC 9112,
/// 3.2).
async fn require_host(request: Request, next: Next<Request, Response>) -> Response {
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() > Version::HTTP_10) {
        return Problem::invalid(format!("the request has {hosts} Host headers; send one")).into_response();
    }
    next.run(request).await
}

/// Forbids caches to store responses of the API, which contain secrets and the current state.
async fn no_store(request: Request, next: Next<Request, Response>) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn count(request: Request, next: Next<Request, Response>) -> Response {
    let method = known_method(request.method());
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("relay_http_requests_total", "method" => method, "path" => path, "status" => status)
        .increment(1);
    response
}

/// Returns the method as a label. A client may invent methods, and each would be a time series without end.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower_service::Service;

    use super::*;
    use crate::clock::Clock;
    use crate::config::CorsOrigin;

    #[tokio::test]
    async fn panic_of_a_handler_is_a_500_without_its_message() {
        async fn bug() {
            panic!("on purpose");
        }
        let mut router =
            Router::new().route("/bug", get(bug)).layer(around_all(Arc::new(MemoryBudget::new()), None));
        let request = Request::builder().uri("/bug").header(HOST, "relay").body(Body::empty()).unwrap();
        let Ok(response) = Service::<Request>::call(&mut router, request).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        assert!(
            !String::from_utf8_lossy(&body).contains("on purpose"),
            "the response contains the panic's message"
        );
    }

    #[test]
    fn middleware_chains_hold_the_listed_parts_in_order() {
        let all = around_all(Arc::new(MemoryBudget::new()), None);
        assert_eq!(
            format!("{all:?}"),
            "ChainLayer(identify > count > drain_refused > translate_errors > require_host > bound_answers > catch_panic)"
        );
        let all = around_all(Arc::new(MemoryBudget::new()), Cors::new(&[CorsOrigin::Any]));
        assert!(format!("{all:?}").contains("count > allow_origins > drain_refused"), "{all:?}");
        let api_keys = Arc::new(ApiKeys::new(Arc::default(), Clock::new()));
        let reads = Arc::new(TenantBulkheads::of_reads());
        let api = api_chain(api_keys, Arc::new(Readiness::new()), reads);
        assert_eq!(
            format!("{api:?}"),
            "ChainLayer(no_store > refuse_when_crowded > refuse_deliveries > authenticate > refuse_when_stopping > share_reads)"
        );
    }
}
