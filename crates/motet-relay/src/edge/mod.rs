//! The HTTP edge: the API under `/v1`, health, metrics, and the page at `/`.
//!
//! It translates and nothing more: no scheduling and no SQL here.

mod auth;
mod body;
mod deliveries;
mod endpoints;
mod events;
mod extract;
mod health;
mod listener;
mod page;
mod paging;
mod problem;
mod views;
mod write_deadline;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, extract::State};
use http::Method;
use metrics_exporter_prometheus::PrometheusHandle;
use motet::container::Running;

pub(crate) use self::auth::Access;
pub(crate) use self::listener::serve;
use self::problem::Problem;
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
    pub(crate) intake: Arc<Intake>,
    pub(crate) lifecycle: Arc<Lifecycle>,
}

/// Open until shutdown begins; then nothing new is taken in.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    closed: AtomicBool,
}

impl Intake {
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether it is open, as a check of health.
    pub(crate) fn open(&self) -> Result<(), &'static str> {
        if self.is_closed() { Err("shutting down") } else { Ok(()) }
    }
}

pub(crate) fn router(app: Arc<Edge>, parts: Arc<Running>) -> Router {
    let v1 = Router::new()
        .route("/events", post(events::publish).get(events::list))
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
        .layer(from_fn_with_state(Arc::clone(&app), refuse_when_closed))
        .layer(from_fn_with_state(Arc::clone(&app), auth::require_bearer));
    Router::new()
        .nest("/v1", v1)
        .route("/", get(page::show))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready).with_state(parts))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_path)
        .layer(from_fn(count))
        .with_state(app)
}

/// During shutdown reads still work, and everything else is refused so that the client tries elsewhere.
async fn refuse_when_closed(
    State(app): State<Arc<Edge>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if app.intake.is_closed() && request.method() != Method::GET {
        return Err(Problem::unavailable("relay is shutting down; nothing was stored; try again"));
    }
    Ok(next.run(request).await)
}

/// A client may invent methods, and each would be a time series for ever.
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

async fn count(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let method = known_method(request.method());
    let path = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("relay_http_requests_total", "method" => method, "path" => path, "status" => status)
        .increment(1);
    response
}
