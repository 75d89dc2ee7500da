//! Errors in the forms that the clients parse: `{"code","detail"}`, and for 422 a list of the invalid fields.
//!
//! The Python client fails with an error of its own if a body is not JSON, or if the `detail` of a 422 is a text. So
//! [`translate_errors`] also translates the responses of the router, of extractors and of middleware.

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Json, body};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Version};
use motet::middleware::Next;
use serde::Deserialize;
use serde_json::json;

use super::PREFIXES;
use crate::api::problem::Problem;
use crate::store::StoreError;

/// Maximum size of the body of an error that is translated.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// A refused request.
#[derive(Debug)]
pub(super) enum SvixError {
    /// A field is invalid.
    Invalid {
        place: Place,
        field: String,
        message: String,
    },
    Problem(Problem),
}

/// Where a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Body,
    Query,
}

impl SvixError {
    pub(super) fn body(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { place: Place::Body, field: field.to_owned(), message: message.into() }
    }

    pub(super) fn query(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { place: Place::Query, field: field.to_owned(), message: message.into() }
    }

    pub(super) fn not_found(what: &str, id: &str) -> Self {
        Self::Problem(Problem::not_found(what, id))
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::Problem(Problem::new(StatusCode::CONFLICT, detail))
    }

    pub(super) fn not_implemented(path: &str) -> Self {
        let detail = format!("this version of relay does not implement {path}");
        Self::Problem(Problem::new(StatusCode::NOT_IMPLEMENTED, detail))
    }

    pub(super) fn bug(what: &str) -> Self {
        tracing::error!(what, "a request failed");
        let detail = "a bug in relay; the log has the details";
        Self::Problem(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
    }
}

/// Returns a function that names the field of a check that failed.
pub(super) fn in_field(field: &str) -> impl Fn(Problem) -> SvixError {
    move |problem| match problem.status {
        StatusCode::BAD_REQUEST => SvixError::body(field, problem.detail),
        _ => SvixError::Problem(problem),
    }
}

impl From<Problem> for SvixError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for SvixError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(message) => {
                // The messages begin with the name of the field.
                let field = message.split([' ', ':']).next().unwrap_or_default().to_owned();
                Self::body(&field, message)
            }
            other => Self::Problem(other.into()),
        }
    }
}

impl IntoResponse for SvixError {
    fn into_response(self) -> Response {
        match self {
            // `translate_errors` translates it.
            Self::Problem(problem) => problem.into_response(),
            Self::Invalid { place, field, message } => {
                let place = match place {
                    Place::Body => "body",
                    Place::Query => "query",
                };
                let loc = if field.is_empty() { vec![place] } else { vec![place, &field] };
                let detail = json!([{ "loc": loc, "msg": message, "type": "value_error" }]);
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": detail }))).into_response()
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct ProblemBody {
    detail: String,
    code: Option<String>,
}

/// Middleware: writes each error of a path of this API as JSON in Svix's form.
pub(in crate::api) async fn translate_errors(request: Request, next: Next<Request, Response>) -> Response {
    let path = request.uri().path();
    let is_own = PREFIXES
        .into_iter()
        .filter_map(|prefix| path.strip_prefix(prefix))
        .any(|rest| rest.is_empty() || rest.starts_with('/'));
    let has_body = !request.body().is_end_stream() && request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if is_own && is_error && has_body {
        // The body may be unread, and the server then closes the connection. A client that does not know would send its
        // next request on it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !is_own || !is_error || is_json {
        return response;
    }
    let (mut head, original) = response.into_parts();
    let reason = || status.canonical_reason().unwrap_or("error").to_ascii_lowercase();
    // A body of another size is not one of relay's errors; its status is what counts.
    let bytes = body::to_bytes(original, MAX_ERROR_BYTES).await.unwrap_or_default();
    let (code, detail) = match serde_json::from_slice::<ProblemBody>(&bytes) {
        Ok(problem) => (problem.code, problem.detail),
        Err(_) => (
            None,
            std::str::from_utf8(&bytes)
                .ok()
                .filter(|text| !text.is_empty())
                .map_or_else(reason, str::to_owned),
        ),
    };
    let code = code.unwrap_or_else(|| reason().replace([' ', '-'], "_"));
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = if status == StatusCode::UNPROCESSABLE_ENTITY {
        json!({ "detail": [{ "loc": [], "msg": detail, "type": code }] })
    } else {
        json!({ "code": code, "detail": detail })
    };
    Response::from_parts(head, body.to_string().into())
}
