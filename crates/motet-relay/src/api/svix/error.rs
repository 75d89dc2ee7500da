//! Errors in the forms that the clients parse: `{"code","detail"}`, and for 422 a list of the invalid fields.
//!
//! The Python client fails with an error of its own if a body is not JSON, or if the `detail` of a 422 is a text. So
//! [`translate_errors`] also translates the responses of the router, of extractors and of middleware.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Json, body};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use motet::middleware::Next;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PREFIXES;
use crate::api::openapi::Answer;
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
                let loc = [place.to_owned(), field].into_iter().filter(|part| !part.is_empty()).collect();
                let r#type = "value_error".to_owned();
                let view = ValidationView { detail: vec![ValidationError { loc, msg: message, r#type }] };
                (StatusCode::UNPROCESSABLE_ENTITY, Json(view)).into_response()
            }
        }
    }
}

impl Answer for SvixError {}

/// A refused request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HttpErrorOut)]
pub(in crate::api) struct ErrorView {
    /// A name of the reason for programs.
    code: String,
    /// The mistake and, where it helps, the remedy.
    detail: String,
}

/// A request with an invalid field or parameter.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HTTPValidationError)]
pub(in crate::api) struct ValidationView {
    detail: Vec<ValidationError>,
}

/// A field that is invalid.
#[derive(Debug, Serialize, ToSchema)]
struct ValidationError {
    /// `body` or `query`, and the name of the field.
    loc: Vec<String>,
    /// The mistake.
    msg: String,
    r#type: String,
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
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
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
        let error = ValidationError { loc: Vec::new(), msg: detail, r#type: code };
        serde_json::to_string(&ValidationView { detail: vec![error] })
    } else {
        serde_json::to_string(&ErrorView { code, detail })
    };
    // Texts are always written.
    Response::from_parts(head, body.unwrap_or_default().into())
}
