//! `/api/v1/auth`: sessions of the portal, which this version does not have yet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::apps::{ApplicationIn, find_or_create};
use super::error::SvixError;
use super::extract::{App, AppTarget, read_json};
use super::views::PortalView;
use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::problem::Problem;
use crate::clock::{Millis, millis};
use crate::masked::Masked;
use crate::store::NewSession;

/// The page that the links lead to.
pub(super) const PATH: &str = "/portal";

const PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>motet relay</title>\
    <p>This version of relay has no portal. The link and its session are valid.</p></html>";

const TOKEN_PREFIX: &str = "rps_";
const MIN_EXPIRY: u64 = 60 * 60;
const MAX_EXPIRY: u64 = 7 * 24 * 60 * 60;
const MAX_SESSION_CHARACTERS: usize = 256;
const MAX_SESSION_IDS: usize = 100;

const CAPABILITIES: [&str; 6] = [
    "ViewBase",
    "ViewEndpointSecret",
    "ManageEndpointSecret",
    "ManageTransformations",
    "CreateAttempts",
    "ManageEndpoint",
];

/// A session of the portal to create.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = PortalAccessIn)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct AccessIn {
    application: Option<ApplicationIn>,
    capabilities: Option<Vec<String>>,
    read_only: Option<bool>,
    expiry: Option<u64>,
    session_id: Option<String>,
    feature_flags: Option<Vec<String>>,
}

/// The sessions to end.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ExpireAllIn)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct ExpireIn {
    session_ids: Option<Vec<String>>,
    expiry: Option<u64>,
}

/// Reads a JSON body that may be left out.
async fn read_optional<T: Default + serde::de::DeserializeOwned>(
    api: &ApiState,
    request: Request,
) -> Result<T, SvixError> {
    if request.headers().get(CONTENT_TYPE).is_none() {
        return Ok(T::default());
    }
    let mut reserved = api.memory.for_request(request.extensions());
    read_json(request, &mut reserved).await
}

impl AccessIn {
    fn capabilities(&self) -> Result<Vec<String>, SvixError> {
        if self.feature_flags.as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(SvixError::body("featureFlags", "relay has no feature flags"));
        }
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let Some(given) = self.capabilities.as_ref().filter(|given| !given.is_empty()) else {
            let all = if self.read_only == Some(true) { &CAPABILITIES[..1] } else { &CAPABILITIES[..] };
            return Ok(owned(all));
        };
        match given.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
            Some(other) => {
                let message = format!("{other:?} is not one of {}", CAPABILITIES.join(", "));
                Err(SvixError::body("capabilities", message))
            }
            None => Ok(given.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()),
        }
    }

    fn expiry(&self) -> Result<Duration, SvixError> {
        match self.expiry.unwrap_or(MAX_EXPIRY) {
            expiry @ MIN_EXPIRY..=MAX_EXPIRY => Ok(Duration::from_secs(expiry)),
            other => {
                let message = format!("expiry is {other}; it must be between {MIN_EXPIRY} and {MAX_EXPIRY}");
                Err(SvixError::body("expiry", message))
            }
        }
    }
}

/// Creates a session of the portal, and returns its link and its token.
pub(super) async fn access(
    State(api): State<Arc<ApiState>>,
    target: AppTarget,
    sender: Principal,
    request: Request,
) -> Result<Json<PortalView>, SvixError> {
    let base = base_url(request.headers());
    let access: AccessIn = read_optional(&api, request).await?;
    let (capabilities, expiry) = (access.capabilities()?, access.expiry()?);
    if access.session_id.as_ref().is_some_and(|id| id.chars().count() > MAX_SESSION_CHARACTERS) {
        let message = format!("sessionId has more than {MAX_SESSION_CHARACTERS} characters");
        return Err(SvixError::body("sessionId", message));
    }
    let app = find_or_create(&api, &sender, target, access.application).await?;
    let token = generate_token()?;
    let expires_at = api.store.clock().wall().saturating_add(millis(expiry));
    let new =
        NewSession { token: Masked(token.clone()), session: access.session_id, capabilities, expires_at };
    api.store.add_session(app, new, sender.creator()).await?;
    let url = Masked(format!("{base}{PATH}#key={token}"));
    Ok(Json(PortalView { url, token: Masked(token) }))
}

/// Creates a token of 256 random bits. It has no dot: clients take the text after a dot for the region of a server.
fn generate_token() -> Result<String, SvixError> {
    let mut bytes = [0; 32];
    let unavailable =
        |_| SvixError::from(Problem::unavailable("the operating system returned no random bytes; try again"));
    getrandom::fill(&mut bytes).map_err(unavailable)?;
    Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Returns the URL that the client has reached relay by.
fn base_url(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_https = text("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let scheme = if is_https { "https" } else { "http" };
    format!("{scheme}://{}", text(HOST.as_str()).unwrap_or("localhost"))
}

/// Ends the session of the token that the request presents.
pub(super) async fn logout(
    State(api): State<Arc<ApiState>>,
    headers: HeaderMap,
) -> Result<StatusCode, SvixError> {
    let presented = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = presented.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim());
    if let Some(token) = token
        && api.store.end_session(token).await?
    {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::UNAUTHORIZED, "this token has no session, or its session has ended").into())
}

/// Ends the sessions of an application, now or after `expiry` seconds.
pub(super) async fn expire_all(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    request: Request,
) -> Result<StatusCode, SvixError> {
    let expire: ExpireIn = read_optional(&api, request).await?;
    let delay = Duration::from_secs(expire.expiry.unwrap_or(0).min(MAX_EXPIRY));
    let by: Millis = api.store.clock().wall().saturating_add(millis(delay));
    let sessions = expire.session_ids.unwrap_or_default();
    if sessions.len() > MAX_SESSION_IDS {
        let ids = sessions.len();
        let message = format!("sessionIds has {ids} entries; at most {MAX_SESSION_IDS} are allowed");
        return Err(SvixError::body("sessionIds", message));
    }
    api.store.end_sessions(app, sessions, by).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn page() -> Response {
    let policy = HeaderValue::from_static("default-src 'none'");
    ([(CONTENT_SECURITY_POLICY, policy)], Html(PAGE)).into_response()
}
