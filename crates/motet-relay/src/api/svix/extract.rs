//! Extractors: the body, the query, and the resources that a path names by id or uid.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;
use motet::middleware::Next;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use utoipa::ToSchema;

use super::error::SvixError;
use super::messages::idempotency_key;
use crate::access::KeyScope;
use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::body::{MAX_JSON_BYTES, media_type, read};
use crate::api::filters::parse_time;
use crate::api::memory::ByteReservation;
use crate::api::openapi::{Argument, Signature};
use crate::api::problem::Problem;
use crate::clock::Millis;
use crate::ids::IdKind;
use crate::store::{EndpointRow, EventRow, OnceKey, OnceKind, TenantSeq, Walk};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 250;

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ApiState>> for Body<T> {
    type Rejection = SvixError;

    async fn from_request(request: Request, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        let mut reserved = api.memory.for_request(request.extensions());
        read_json(request, &mut reserved).await.map(Self)
    }
}

impl<T: ToSchema> Argument for Body<T> {
    fn describe(signature: &mut Signature) {
        signature.set_body::<T>();
    }
}

// The operations describe the parameters of the query, which handlers read one by one.
impl Argument for Query {}
impl Argument for App {}
impl Argument for AppName {}
impl Argument for AppTarget {}
impl Argument for AppEndpoint {}
impl Argument for EndpointName {}
impl Argument for AppMessage {}
impl Argument for AttemptName {}
impl Argument for TypeName {}
impl Argument for TaskName {}

impl Argument for IdempotencyKey {}

/// Reads a JSON body; its bytes are counted in `reserved`.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: Request,
    reserved: &mut ByteReservation,
) -> Result<T, SvixError> {
    let (head, body) = request.into_parts();
    if media_type(&head.headers).as_deref() != Some("application/json") {
        let detail = "send JSON, with 'Content-Type: application/json'";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).into());
    }
    let bytes = read(body, MAX_JSON_BYTES, reserved).await?;
    serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
        Category::Data => {
            let message = error.to_string();
            let named = ["missing field `", "unknown field `"];
            let named = named.into_iter().find_map(|start| message.strip_prefix(start)?.split('`').next());
            SvixError::body(named.unwrap_or_default(), message.as_str())
        }
        _ => Problem::invalid(format!("the body is not JSON: {error}")).into(),
    })
}

/// The idempotency key of a request.
#[derive(Debug)]
pub(super) struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// Returns the key for an object. `scope` names the objects that the request is about.
    pub(super) fn once(&self, kind: OnceKind, scope: impl Display) -> Option<OnceKey> {
        self.0.as_deref().map(|key| OnceKey::new(kind, key, scope))
    }

    pub(super) fn into_text(self) -> Option<String> {
        self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, SvixError> {
        idempotency_key(&parts.headers).map(Self)
    }
}

/// The parameters of the query. [`finish`](Self::finish) refuses those that the route does not know.
#[derive(Debug)]
pub(super) struct Query {
    params: Vec<(String, String)>,
    /// `true` if the sender may see payloads.
    may_see: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, SvixError> {
        let query = parts.uri.query().unwrap_or_default();
        let params = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let sender = parts.extensions.get::<Principal>();
        Ok(Self { params, may_see: sender.is_some_and(|sender| sender.allows(KeyScope::ReadPayload)) })
    }
}

impl Query {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.params.iter().position(|(known, _)| known == name)?;
        Some(self.params.remove(at).1)
    }

    /// Returns a list: its elements are separated by commas, or each has a parameter of its own.
    pub(super) fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let with_brackets = format!("{name}[]");
        let mut found = Vec::new();
        self.params.retain(|(known, value)| {
            let is_it = known == name || *known == with_brackets;
            if is_it {
                found.extend(value.split(',').filter(|part| !part.is_empty()).map(str::to_owned));
            }
            !is_it
        });
        Some(found).filter(|found| !found.is_empty())
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, SvixError> {
        match self.text(name).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(SvixError::query(name, format!("{other:?} is neither true nor false"))),
        }
    }

    /// Returns `true` if payloads and responses are shown: the request does not refuse them, and the sender may see them.
    pub(super) fn with_content(&mut self) -> Result<bool, SvixError> {
        Ok(self.flag("with_content", true)? && self.may_see)
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, SvixError> {
        let parse = |text: String| {
            text.parse().map_err(|_| SvixError::query(name, format!("{text:?} is not a number")))
        };
        self.text(name).map(parse).transpose()
    }

    pub(super) fn time(&mut self, name: &str) -> Result<Option<Millis>, SvixError> {
        let parse =
            |text: String| parse_time(name, &text).map_err(|problem| SvixError::query(name, problem.detail));
        self.text(name).map(parse).transpose()
    }

    pub(super) fn limit(&mut self) -> Result<usize, SvixError> {
        match self.number("limit")? {
            None => Ok(DEFAULT_LIMIT),
            Some(limit) => match usize::try_from(limit) {
                Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
                _ => Err(SvixError::query("limit", format!("{limit} is not between 1 and {MAX_LIMIT}"))),
            },
        }
    }

    /// Returns `true` if the list is descending.
    pub(super) fn is_descending(&mut self, default: bool) -> Result<bool, SvixError> {
        match self.text("order").as_deref() {
            None => Ok(default),
            Some("ascending") => Ok(false),
            Some("descending") => Ok(true),
            Some(other) => {
                Err(SvixError::query("order", format!("{other:?} is neither ascending nor descending")))
            }
        }
    }

    /// Returns the page of a list of rows with identifiers. `parse` returns the row of an iterator.
    pub(super) fn page(
        &mut self,
        is_descending: bool,
        parse: impl Fn(&str) -> Option<i64>,
    ) -> Result<Page, SvixError> {
        let iterator = self.text("iterator");
        let (is_back, id) = match iterator.as_deref() {
            None => (false, None),
            Some(text) => match text.strip_prefix('-') {
                Some(id) => (true, Some(id)),
                None => (false, Some(text)),
            },
        };
        let unknown = |id: &str| {
            SvixError::query("iterator", format!("{id:?} is not an iterator of a list of this kind"))
        };
        let from = id.map(|id| parse(id).ok_or_else(|| unknown(id))).transpose()?;
        let limit = self.limit()?;
        Ok(Page { walk: Walk { from, is_descending: is_descending != is_back, limit }, is_back })
    }

    /// Refuses a request with other parameters.
    pub(super) fn finish(self) -> Result<(), SvixError> {
        match self.params.first() {
            Some((name, _)) => Err(SvixError::query(name, "relay does not know this parameter")),
            None => Ok(()),
        }
    }
}

/// A page of a list: `iterator` continues it, and `-` with the first id goes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) walk: Walk,
    is_back: bool,
}

impl Page {
    /// Returns the rows in the order of the list, and whether the end of the list is reached.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, bool) {
        let is_done = rows.len() <= self.walk.limit;
        rows.truncate(self.walk.limit);
        if self.is_back {
            rows.reverse();
        }
        (rows, is_done)
    }
}

async fn param(parts: &mut Parts, api: &Arc<ApiState>, name: &str) -> Result<String, SvixError> {
    let params = RawPathParams::from_request_parts(parts, api)
        .await
        .map_err(|error| Problem::invalid(error.body_text()))?;
    let found = params.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| SvixError::bug("a route lacks a parameter of its path"))
}

/// The part of a path that names an application.
pub(in crate::api) const APP: &str = "{app}";

/// Middleware of the routes of an application: for a sender that may name one tenant only, the other applications do not
/// exist, whatever its scopes.
pub(in crate::api) async fn hide_other_apps(
    api: Arc<ApiState>,
    request: Request,
    next: Next<Request, Response>,
) -> Response {
    let Some(sender) = request.extensions().get::<Principal>() else {
        return Problem::unauthenticated().into_response();
    };
    let Some(within) = sender.tenant() else { return next.run(request).await };
    let (mut parts, body) = request.into_parts();
    match param(&mut parts, &api, "app").await {
        Ok(id) if find_app(&api, &id) == Some(within) => next.run(Request::from_parts(parts, body)).await,
        Ok(id) => SvixError::not_found("application", &id).into_response(),
        Err(error) => error.into_response(),
    }
}

/// The application that `{app}` names.
#[derive(Debug, Clone, Copy)]
pub(super) struct App(pub(super) TenantSeq);

impl FromRequestParts<Arc<ApiState>> for App {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        let AppTarget { name, found } = AppTarget::from_request_parts(parts, api).await?;
        found.map(Self).ok_or_else(|| SvixError::not_found("application", &name))
    }
}

/// The text of `{app}`, and the application that it names, if there is one.
///
/// The application is looked up once, before the body is read: while a client sends its body, the application can be
/// deleted, and its name can pass to another one.
#[derive(Debug)]
pub(super) struct AppTarget {
    pub(super) name: String,
    pub(super) found: Option<TenantSeq>,
}

impl FromRequestParts<Arc<ApiState>> for AppTarget {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        let name = param(parts, api, "app").await?;
        let found = find_app(api, &name);
        // `hide_other_apps` has looked at the name already, which may have passed to another application since then.
        let sender = parts.extensions.get::<Principal>().ok_or_else(Problem::unauthenticated)?;
        if sender.tenant().is_some_and(|within| found != Some(within)) {
            return Err(SvixError::not_found("application", &name));
        }
        Ok(Self { name, found })
    }
}

/// Returns the application with this id or uid.
fn find_app(api: &ApiState, id: &str) -> Option<TenantSeq> {
    let names = api.store.tenant_names();
    let numbered = api.store.ids().parse(IdKind::Tenant, id).map(TenantSeq::numbered);
    // The id first: it is relay's own, and no caller may choose a uid that hides it.
    numbered.filter(|tenant| names.id_of(*tenant).is_some()).or_else(|| names.find(id))
}

/// The text of `{app}`, which may name no application.
#[derive(Debug)]
pub(super) struct AppName(pub(super) String);

impl FromRequestParts<Arc<ApiState>> for AppName {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        param(parts, api, "app").await.map(Self)
    }
}

/// The endpoint that `{endpoint}` names, of the application.
#[derive(Debug)]
pub(super) struct AppEndpoint {
    pub(super) app: TenantSeq,
    pub(super) row: EndpointRow,
}

impl FromRequestParts<Arc<ApiState>> for AppEndpoint {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        let App(app) = App::from_request_parts(parts, api).await?;
        let id = param(parts, api, "endpoint").await?;
        let row = find_endpoint(api, app, &id).await?;
        Ok(Self { app, row: row.ok_or_else(|| SvixError::not_found("endpoint", &id))? })
    }
}

/// Returns the endpoint of the application with this id or uid.
pub(super) async fn find_endpoint(
    api: &ApiState,
    app: TenantSeq,
    id: &str,
) -> Result<Option<EndpointRow>, SvixError> {
    Ok(match api.store.ids().parse(IdKind::Endpoint, id) {
        Some(seq) => api.store.endpoint(app, seq).await?,
        None => api.store.endpoint_with_uid(app, id.to_owned()).await?,
    })
}

/// The text of `{endpoint}`, which may name no endpoint.
#[derive(Debug)]
pub(super) struct EndpointName(pub(super) String);

impl FromRequestParts<Arc<ApiState>> for EndpointName {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        param(parts, api, "endpoint").await.map(Self)
    }
}

/// The message that `{msg}` names, of the application.
#[derive(Debug)]
pub(super) struct AppMessage {
    pub(super) app: TenantSeq,
    pub(super) row: EventRow,
}

impl FromRequestParts<Arc<ApiState>> for AppMessage {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        let App(app) = App::from_request_parts(parts, api).await?;
        let id = param(parts, api, "msg").await?;
        let unknown = || SvixError::not_found("message", &id);
        let seq = match parse_message_id(api, &id) {
            Some(seq) => seq,
            None => api.store.event_with_uid(app, id.clone()).await?.ok_or_else(unknown)?,
        };
        let row = api.store.event(app, seq).await?.ok_or_else(unknown)?;
        Ok(Self { app, row })
    }
}

/// Returns the event of a message's id, which begins with `evt_` or with `msg_`.
pub(super) fn parse_message_id(api: &ApiState, id: &str) -> Option<i64> {
    let ids = api.store.ids();
    match id.strip_prefix("msg_") {
        Some(rest) => ids.parse(IdKind::Event, &format!("evt_{rest}")),
        None => ids.parse(IdKind::Event, id),
    }
}

/// The attempt that `{attempt}` names.
#[derive(Debug)]
pub(super) struct AttemptName(pub(super) String);

impl FromRequestParts<Arc<ApiState>> for AttemptName {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        param(parts, api, "attempt").await.map(Self)
    }
}

/// The task that `{task}` names.
#[derive(Debug)]
pub(super) struct TaskName(pub(super) String);

impl FromRequestParts<Arc<ApiState>> for TaskName {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        param(parts, api, "task").await.map(Self)
    }
}

/// The event type that `{name}` names.
#[derive(Debug)]
pub(super) struct TypeName(pub(super) String);

impl FromRequestParts<Arc<ApiState>> for TypeName {
    type Rejection = SvixError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, SvixError> {
        param(parts, api, "name").await.map(Self)
    }
}
