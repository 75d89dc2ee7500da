//! `/api/v1/app/{app}/endpoint`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::{SvixError, in_field};
use super::extract::{App, AppEndpoint, Body, EndpointName, IdempotencyKey, Query, find_endpoint};
use super::headers;
use super::views::{AttemptStatsView, EndpointView, List, SecretView, StatsView};
use crate::access::KeyScope;
use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::endpoints::{MAX_CHANNELS, check_description, check_url, follow_up, parse_patterns};
use crate::api::names::{check_metadata, check_names, check_uid};
use crate::api::patch::Patch;
use crate::api::secrets;
use crate::clock::Millis;
use crate::ids::IdKind;
use crate::masked::Masked;
use crate::pattern::Pattern;
use crate::signature::Secret;
use crate::store::{
    EndpointChange, EndpointPolicy, EndpointRow, EndpointStats, Merge, NewEndpoint, OnceKey, OnceKind,
    TenantSeq,
};

const SECRET_PREFIX: &str = "whsec_";

/// The prefix of keys for asymmetric signatures.
const ASYMMETRIC_PREFIX: &str = "whsk_";

/// Default and maximum of the time in which a replaced secret stays valid.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The default and the longest time of statistics.
const STATS_DAYS: Millis = 28;
const MAX_STATS_DAYS: Millis = 92;
const DAY: Millis = 24 * 60 * 60 * 1_000;

/// An endpoint to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EndpointIn {
    url: String,
    uid: Option<String>,
    description: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    filter_types: Option<Vec<String>>,
    event_types: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    disabled: Option<bool>,
    #[schema(value_type = Option<String>)]
    secret: Option<Masked<String>>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<Masked<BTreeMap<String, String>>>,
    rate_limit: Option<u32>,
    throttle_rate: Option<u32>,
    /// Has no meaning any more; clients of the versions 1.x send it.
    #[serde(rename = "version")]
    _version: Option<u32>,
}

/// A change of an endpoint: a field that is absent stays, and `null` clears a field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EndpointPatch {
    url: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    uid: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    metadata: Patch<BTreeMap<String, String>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    filter_types: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    channels: Patch<Vec<String>>,
    disabled: Option<bool>,
    #[schema(value_type = Option<String>)]
    secret: Option<Masked<String>>,
    #[serde(default)]
    #[schema(value_type = Option<u32>)]
    rate_limit: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = Option<u32>)]
    throttle_rate: Patch<u32>,
    #[serde(rename = "version")]
    _version: Option<u32>,
}

/// A new secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RotateIn {
    /// The new secret; relay creates one if it is absent.
    #[schema(value_type = Option<String>)]
    key: Option<Masked<String>>,
    /// How long deliveries are also signed with the old secret; a day if it is absent.
    #[schema(maximum = 604800)]
    grace_period_seconds: Option<u64>,
}

/// The fields of an endpoint, checked.
struct CheckedEndpoint {
    uid: Option<String>,
    url: String,
    description: String,
    metadata: BTreeMap<String, String>,
    headers: Option<Masked<BTreeMap<String, String>>>,
    patterns: Vec<Pattern>,
    channels: Vec<String>,
    rate: Option<NonZeroU32>,
    enabled: bool,
    secret: Option<Secret>,
}

impl EndpointIn {
    fn check(self, api: &ApiState) -> Result<CheckedEndpoint, SvixError> {
        let description = self.description.unwrap_or_default();
        check_description(&description).map_err(in_field("description"))?;
        let metadata = self.metadata.unwrap_or_default();
        check_metadata_of(&metadata)?;
        if let Some(headers) = &self.headers {
            headers::check(headers)?;
        }
        if let Some(uid) = &self.uid {
            check_uid(api.store.ids(), uid).map_err(in_field("uid"))?;
        }
        let channels = self.channels.unwrap_or_default();
        check_names("channels", &channels, MAX_CHANNELS).map_err(in_field("channels"))?;
        let types = either("filterTypes", self.filter_types, "eventTypes", self.event_types)?;
        let rate = either("rateLimit", self.rate_limit, "throttleRate", self.throttle_rate)?;
        Ok(CheckedEndpoint {
            uid: self.uid,
            url: check_url(&self.url, &api.guard).map_err(in_field("url"))?,
            description,
            metadata,
            headers: self.headers,
            patterns: patterns(types)?,
            channels,
            rate: rate.map(check_rate).transpose()?,
            enabled: !self.disabled.unwrap_or(false),
            secret: self.secret.map(|Masked(secret)| parse_secret("secret", &secret)).transpose()?,
        })
    }
}

impl CheckedEndpoint {
    async fn create(
        self,
        api: &ApiState,
        app: TenantSeq,
        once: Option<OnceKey>,
    ) -> Result<EndpointRow, SvixError> {
        let secret = match self.secret {
            Some(secret) => secret,
            None => secrets::generate()?,
        };
        let new = NewEndpoint {
            uid: self.uid,
            description: self.description,
            metadata: self.metadata,
            headers: self.headers.unwrap_or_default(),
            channels: self.channels,
            policy: EndpointPolicy { rate: self.rate, ..EndpointPolicy::default() },
            enabled: self.enabled,
            ..NewEndpoint::new(self.url, self.patterns, secret)
        };
        Ok(api.store.create_endpoint_once(app, new, once).await?)
    }
}

impl EndpointPatch {
    fn change(self, api: &ApiState) -> Result<EndpointChange, SvixError> {
        let description = self.description.or_default();
        if let Some(description) = &description {
            check_description(description).map_err(in_field("description"))?;
        }
        if let Patch::Value(metadata) = &self.metadata {
            check_metadata_of(metadata)?;
        }
        let uid = match self.uid {
            Patch::Absent => None,
            Patch::Null => Some(None),
            Patch::Value(uid) => {
                check_uid(api.store.ids(), &uid).map_err(in_field("uid"))?;
                Some(Some(uid))
            }
        };
        let channels = self.channels.or_default();
        if let Some(channels) = &channels {
            check_names("channels", channels, MAX_CHANNELS).map_err(in_field("channels"))?;
        }
        let types = either("filterTypes", given(self.filter_types), "eventTypes", given(self.event_types))?;
        let rate = either("rateLimit", given(self.rate_limit), "throttleRate", given(self.throttle_rate))?;
        Ok(EndpointChange {
            uid,
            url: self.url.map(|url| check_url(&url, &api.guard)).transpose().map_err(in_field("url"))?,
            description,
            metadata: self.metadata.or_default().map(Merge::Replace),
            patterns: types.map(patterns).transpose()?,
            channels,
            policy: rate.map(change_of_rate).transpose()?,
            enabled: self.disabled.map(|disabled| !disabled),
            secret: self.secret.map(|Masked(secret)| parse_secret("secret", &secret)).transpose()?,
            ..EndpointChange::default()
        })
    }
}

/// Returns the value of a member; the inner `None` is null.
fn given<T>(patch: Patch<T>) -> Option<Option<T>> {
    match patch {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Value(value) => Some(Some(value)),
    }
}

/// Returns the value of a field with two names.
fn either<T: PartialEq>(old: &str, a: Option<T>, new: &str, b: Option<T>) -> Result<Option<T>, SvixError> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => {
            Err(SvixError::body(new, format!("{old} and {new} are the same field, and differ; send one")))
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// An empty list selects all event types, like no list.
fn patterns(types: Option<Vec<String>>) -> Result<Vec<Pattern>, SvixError> {
    let types = types.filter(|types| !types.is_empty()).unwrap_or_else(|| vec![">".to_owned()]);
    parse_patterns(&types).map_err(in_field("filterTypes"))
}

fn check_rate(rate: u32) -> Result<NonZeroU32, SvixError> {
    NonZeroU32::new(rate).ok_or_else(|| SvixError::body("throttleRate", "throttleRate must be at least 1"))
}

fn change_of_rate(
    rate: Option<u32>,
) -> Result<Merge<EndpointPolicy, serde_json::Map<String, Value>>, SvixError> {
    let rate = rate.map(check_rate).transpose()?;
    Ok(Merge::Patch([("rate".to_owned(), json!(rate))].into_iter().collect()))
}

fn check_metadata_of(metadata: &BTreeMap<String, String>) -> Result<(), SvixError> {
    check_metadata(metadata.iter().map(|(name, value)| (name, Some(value)))).map_err(in_field("metadata"))
}

/// Parses a secret with or without its prefix.
fn parse_secret(field: &str, text: &str) -> Result<Secret, SvixError> {
    if text.starts_with(ASYMMETRIC_PREFIX) {
        let message = format!("{field}: relay has no asymmetric signatures ({ASYMMETRIC_PREFIX})");
        return Err(SvixError::body(field, message));
    }
    let encoded = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
    Secret::parse(&format!("{SECRET_PREFIX}{encoded}"))
        .map_err(|error| SvixError::body(field, format!("{field}: {error}")))
}

fn id(api: &ApiState, row: &EndpointRow) -> String {
    api.store.ids().format(IdKind::Endpoint, row.seq)
}

fn view(api: &ApiState, row: &EndpointRow) -> Json<EndpointView> {
    Json(EndpointView::new(api.store.ids(), row))
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    key: IdempotencyKey,
    Body(new): Body<EndpointIn>,
) -> Result<(StatusCode, Json<EndpointView>), SvixError> {
    let row = new.check(&api)?.create(&api, app, key.once(OnceKind::Endpoint, "")).await?;
    Ok((StatusCode::CREATED, view(&api, &row)))
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    mut query: Query,
) -> Result<Json<List<EndpointView>>, SvixError> {
    let ids = api.store.ids();
    let is_descending = query.is_descending(false)?;
    let page = query.page(is_descending, |id| ids.parse(IdKind::Endpoint, id))?;
    query.finish()?;
    let (rows, is_done) = page.cut(api.store.endpoints_of_page(app, page.walk).await?);
    let view = |row: EndpointRow| (id(&api, &row), EndpointView::new(ids, &row));
    Ok(Json(List::new(rows.into_iter().map(view).collect(), is_done)))
}

pub(super) async fn read(State(api): State<Arc<ApiState>>, endpoint: AppEndpoint) -> Json<EndpointView> {
    view(&api, &endpoint.row)
}

/// Replaces an endpoint, or creates it. The secret and the headers stay unless they are sent.
pub(super) async fn put(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    EndpointName(name): EndpointName,
    sender: Principal,
    Body(new): Body<EndpointIn>,
) -> Result<(StatusCode, Json<EndpointView>), SvixError> {
    let replaces_secret = new.secret.is_some();
    let mut new = new.check(&api)?;
    let Some(row) = find_endpoint(&api, app, &name).await? else {
        if new.uid.is_none() {
            check_uid(api.store.ids(), &name).map_err(in_field("uid"))?;
            new.uid = Some(name);
        }
        let row = new.create(&api, app, None).await?;
        return Ok((StatusCode::CREATED, view(&api, &row)));
    };
    if replaces_secret {
        sender.require(KeyScope::Secrets)?;
    }
    let change = EndpointChange {
        uid: Some(new.uid),
        url: Some(new.url),
        description: Some(new.description),
        metadata: Some(Merge::Replace(new.metadata)),
        headers: new.headers.map(|Masked(headers)| Masked(Merge::Replace(headers))),
        patterns: Some(new.patterns),
        channels: Some(new.channels),
        policy: Some(change_of_rate(new.rate.map(NonZeroU32::get))?),
        // An endpoint that relay has disabled is enabled again only if its owner's setting changes.
        enabled: Some(new.enabled).filter(|enabled| *enabled != row.enabled),
        secret: new.secret,
        overlap: None,
    };
    let row = update(&api, app, row.seq, change).await?;
    Ok((StatusCode::OK, view(&api, &row)))
}

pub(super) async fn patch(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    sender: Principal,
    Body(patch): Body<EndpointPatch>,
) -> Result<Json<EndpointView>, SvixError> {
    if patch.secret.is_some() {
        sender.require(KeyScope::Secrets)?;
    }
    let change = patch.change(&api)?;
    let row = update(&api, endpoint.app, endpoint.row.seq, change).await?;
    Ok(view(&api, &row))
}

async fn update(
    api: &ApiState,
    app: TenantSeq,
    seq: i64,
    change: EndpointChange,
) -> Result<EndpointRow, SvixError> {
    let id = api.store.ids().format(IdKind::Endpoint, seq);
    let updated = api.store.update_endpoint(app, seq, change).await?;
    let updated = updated.ok_or_else(|| SvixError::not_found("endpoint", &id))?;
    follow_up(api, &id, &updated).await;
    Ok(updated.row)
}

pub(super) async fn delete(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
) -> Result<StatusCode, SvixError> {
    if api.store.delete_endpoint(endpoint.app, endpoint.row.seq).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(SvixError::not_found("endpoint", &id(&api, &endpoint.row)))
    }
}

pub(super) async fn secret(endpoint: AppEndpoint) -> Result<Json<SecretView>, SvixError> {
    Ok(Json(SecretView::new(endpoint.row.secret()?)))
}

/// Replaces the secret. Deliveries are also signed with the old one for the grace period.
pub(super) async fn rotate(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    Body(rotate): Body<RotateIn>,
) -> Result<Json<SecretView>, SvixError> {
    let grace = rotate.grace_period_seconds.map_or(GRACE, Duration::from_secs);
    if grace > MAX_GRACE {
        let (seconds, max) = (grace.as_secs(), MAX_GRACE.as_secs());
        let message = format!("gracePeriodSeconds is {seconds}; it must be between 0 and {max}");
        return Err(SvixError::body("gracePeriodSeconds", message));
    }
    let secret = match rotate.key {
        Some(Masked(key)) => parse_secret("key", &key)?,
        None => secrets::generate()?,
    };
    let change = EndpointChange { secret: Some(secret), overlap: Some(grace), ..EndpointChange::default() };
    let row = update(&api, endpoint.app, endpoint.row.seq, change).await?;
    // Clients expect the new key, although Svix's own server answers without a body.
    Ok(Json(SecretView::new(row.secret()?)))
}

async fn stats_of(
    api: &ApiState,
    endpoint: &AppEndpoint,
    mut query: Query,
) -> Result<EndpointStats, SvixError> {
    let until = query.time("until")?.unwrap_or_else(|| api.store.clock().wall() + 1);
    let since = query.time("since")?.unwrap_or(until - STATS_DAYS * DAY);
    query.finish()?;
    if until.saturating_sub(since) > MAX_STATS_DAYS * DAY {
        let message = format!("the time has more than {MAX_STATS_DAYS} days");
        return Err(SvixError::query("since", message));
    }
    Ok(api.store.endpoint_stats(endpoint.app, endpoint.row.seq, since, until).await?)
}

/// The messages of the endpoint by their status.
pub(super) async fn stats(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    query: Query,
) -> Result<Json<StatsView>, SvixError> {
    let EndpointStats { ok, dead, skipped, pending, .. } = stats_of(&api, &endpoint, query).await?;
    Ok(Json(StatsView { success: ok, pending, sending: 0, fail: dead, canceled: skipped }))
}

/// The attempts at the endpoint by their outcome.
pub(super) async fn attempt_stats(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    query: Query,
) -> Result<Json<AttemptStatsView>, SvixError> {
    let EndpointStats { ok, failed, .. } = stats_of(&api, &endpoint, query).await?;
    Ok(Json(AttemptStatsView { success: ok, fail: failed, canceled: 0 }))
}
