//! Errors as `application/problem+json` (RFC 9457).

use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::request_id;
use crate::store::{Quota, QuotaExceeded, StoreError};

/// A refused request. `detail` states the mistake and, where it helps, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(super) status: StatusCode,
    pub(super) detail: String,
    /// A name of the reason for programs.
    pub(super) code: Option<&'static str>,
    /// When the same request may succeed, in seconds.
    pub(super) retry_after: Option<u64>,
    /// The oldest event that is stored, if older ones were deleted.
    pub(super) oldest_id: Option<String>,
}

/// A refused request (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// Always `about:blank`: the status is the kind of the problem.
    r#type: &'static str,
    /// The name of the status.
    title: &'a str,
    status: u16,
    /// The mistake and, where it helps, the remedy.
    detail: &'a str,
    /// A name of the reason for programs, if there is one: `quota_events_rate`, `quota_events_day`, `quota_backlog`,
    /// `quota_event_bytes`, `quota_endpoints`,
    /// `quota_keys`, `replays_running` or `backup_running`.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// The id of the oldest event that is stored, if a feed cannot continue because older events were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_id: Option<&'a str>,
    /// The `x-request-id` of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), code: None, retry_after: None, oldest_id: None }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what} {id:?}"))
    }

    /// Refuses a request that exceeds a quota of its tenant.
    pub(super) fn quota(exceeded: &QuotaExceeded) -> Self {
        let QuotaExceeded { quota, limit, retry_after } = *exceeded;
        let (status, code, detail) = match quota {
            Quota::EventsPerSecond => (
                StatusCode::TOO_MANY_REQUESTS,
                "quota_events_rate",
                format!("the tenant may publish or resend {limit} events per second"),
            ),
            Quota::EventsPerDay => (
                StatusCode::TOO_MANY_REQUESTS,
                "quota_events_day",
                format!("the tenant has published its {limit} events of this UTC day"),
            ),
            Quota::Backlog => (
                StatusCode::TOO_MANY_REQUESTS,
                "quota_backlog",
                format!("the tenant has {limit} or more pending deliveries, which is its limit"),
            ),
            Quota::EventBytes => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "quota_event_bytes",
                format!("the data of an event of this tenant may have {limit} bytes"),
            ),
            Quota::Keys => (
                StatusCode::CONFLICT,
                "quota_keys",
                format!("the tenant has {limit} valid API keys, which is its limit; revoke one first"),
            ),
            Quota::Endpoints => (
                StatusCode::CONFLICT,
                "quota_endpoints",
                format!("the tenant has {limit} endpoints, which is its limit; delete one first"),
            ),
        };
        let retry_after = retry_after.map(|delay| delay.as_secs_f64().ceil() as u64);
        Self { code: Some(code), retry_after, ..Self::new(status, format!("{detail}; nothing was stored")) }
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "send the API key as 'Authorization: Bearer rk_...'")
    }

    /// Refuses a key of one tenant.
    pub(super) fn needs_all_tenants() -> Self {
        let detail = "the API key belongs to one tenant; this request needs a key of all tenants";
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full
            | StoreError::Limit(_)
            | StoreError::Busy
            | StoreError::Io(_)
            | StoreError::Closed => {
                Self::unavailable(format!("{error}; nothing was stored; try again later"))
            }
            StoreError::Unsure(_) => Self::unavailable(format!(
                "{error}; it may have been stored; send it again under the same idempotency key"
            )),
            StoreError::Erased => {
                Self { code: Some("erased"), ..Self::new(StatusCode::CONFLICT, error.to_string()) }
            }
            StoreError::Overtaken => Self::new(StatusCode::GONE, error.to_string()),
            StoreError::TooManyReplays(_) => {
                Self { code: Some("replays_running"), ..Self::new(StatusCode::CONFLICT, error.to_string()) }
            }
            StoreError::BackupRunning => {
                Self { code: Some("backup_running"), ..Self::new(StatusCode::CONFLICT, error.to_string()) }
            }
            StoreError::KeyFile(_) => {
                Self { code: Some("key_file"), ..Self::new(StatusCode::CONFLICT, error.to_string()) }
            }
            StoreError::Undecryptable(_) => Self {
                code: Some("undecryptable"),
                ..Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("{error}; replace it to use the endpoint again"),
                )
            },
            StoreError::NoTenant | StoreError::NoEndpoint => {
                Self::new(StatusCode::NOT_FOUND, error.to_string())
            }
            StoreError::KeyEnded => Self::new(StatusCode::UNAUTHORIZED, error.to_string()),
            StoreError::Invalid(_) => Self::invalid(error.to_string()),
            StoreError::Quota(exceeded) => Self::quota(&exceeded),
            StoreError::UidTaken(_) | StoreError::TenantTaken(_) | StoreError::PausedByOperator => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            // Damage does not heal with time.
            StoreError::Corrupt(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}; nothing was stored"))
            }
            StoreError::Internal(_) => {
                // Logged in full, answered in general: the text may contain SQL statements.
                tracing::error!(%error, "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug in relay; the log has the details")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            oldest_id: self.oldest_id.as_deref(),
            request_id: request_id::current(),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        add_headers(self.status, headers);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Adds the headers that belong to a status.
pub(super) fn add_headers(status: StatusCode, headers: &mut HeaderMap) {
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

pub(super) async fn no_such_path(OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not support {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsure_commit_is_reported_as_possibly_stored() {
        let unsure = Problem::from(StoreError::Unsure("fsync".to_owned()));
        assert_eq!(unsure.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(unsure.detail.contains("may have been stored"), "{}", unsure.detail);
        assert!(unsure.detail.contains("idempotency key"), "{}", unsure.detail);
        assert!(!unsure.detail.contains("nothing"), "{}", unsure.detail);
        assert!(Problem::from(StoreError::Full).detail.contains("nothing was stored"));
    }
}
