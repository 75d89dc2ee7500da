//! Cross-origin requests of browsers, for the origins of `--cors-origin`.
//!
//! Without the option there are no such headers, and browsers refuse scripts of other origins. With it, a preflight is
//! answered without an API key, because browsers send none. Credentials of browsers, such as cookies, are not allowed:
//! a script sends its key itself.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use motet::middleware::Next;

use super::problem::Problem;
use crate::config::CorsOrigin;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");

/// The headers of requests, among them those of Svix's clients.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, x-request-id, svix-req-id, svix-retry-count",
);

/// The headers of responses that a script may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, retry-after, idempotent-replayed");

/// How long a browser remembers the response to a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");

/// The origins whose scripts may read responses.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<CorsOrigin>,
}

impl Cors {
    /// Returns `None` if no origin is allowed.
    pub(super) fn new(origins: &[CorsOrigin]) -> Option<Arc<Self>> {
        (!origins.is_empty()).then(|| Arc::new(Self { origins: origins.to_vec() }))
    }

    /// Returns the value of `Access-Control-Allow-Origin` for a request from `origin`.
    fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.origins.contains(&CorsOrigin::Any) {
            return Some(HeaderValue::from_static("*"));
        }
        let is_it = |allowed: &CorsOrigin| matches!(allowed, CorsOrigin::Only(text) if text == origin);
        self.origins.iter().any(is_it).then(|| origin.clone())
    }

    fn add_headers(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        // A cache must not show the response for one origin to another one.
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(allowed) = origin.and_then(|origin| self.allow(origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// Middleware: answers preflights, and marks the responses that scripts of other origins may read.
pub(super) async fn allow_origins(
    cors: Arc<Cors>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &origin {
        Some(origin) if is_preflight => preflight(&cors, origin),
        _ => next.run(request).await,
    };
    cors.add_headers(origin.as_ref(), response.headers_mut());
    response
}

fn preflight(cors: &Cors, origin: &HeaderValue) -> Response {
    if cors.allow(origin).is_none() {
        let detail = format!("{origin:?} is not an allowed origin; `--cors-origin` allows origins");
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
