//! `/v1/endpoints`

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use url::{Host, Url};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Principal;
use super::extract::{Id, Json, Params};
use super::names::{check_metadata, check_names, check_uid};
use super::paging::{ListResponse, PageRequest};
use super::patch::Patch;
use super::problem::Problem;
use super::replays::MissedView;
use super::secrets;
use super::tenant::{Tenant, id_of};
use super::views::{EndpointView, Visible};
use crate::access::KeyScope;
use crate::guard::AddressGuard;
use crate::ids::IdKind;
use crate::lifecycle::{DisabledReason, EnabledReason, EndpointDisabled, EndpointEnabled};
use crate::masked::Masked;
use crate::pattern::Pattern;
use crate::signature::Secret;
use crate::store::{
    EndpointChange, EndpointKind, EndpointPolicy, EndpointRow, NewEndpoint, PauseTarget, PausedBy,
    ReplayMode, UpdatedEndpoint,
};

const MAX_URL_BYTES: usize = 2_048;
const MAX_PATTERNS: usize = 64;
pub(super) const MAX_CHANNELS: usize = 10;
const MAX_DESCRIPTION_BYTES: usize = 1_024;
/// Maximum size of the value of a header. The store limits the number of headers and the size of the whole.
const MAX_HEADER_BYTES: usize = 4_096;

/// Headers of the message that no setting may replace.
const OWN_HEADERS: [&str; 12] = [
    "accept",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const OWN_HEADER_PREFIXES: [&str; 3] = ["proxy-", "svix-", "webhook-"];
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An endpoint to create.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewEndpoint)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateEndpoint {
    /// Where deliveries are sent: `https` or `http`, at most 2 048 bytes.
    #[schema(max_length = 2048, example = "https://receiver.example/hooks")]
    url: String,
    /// The caller's own id of the endpoint, unique within its tenant.
    #[schema(min_length = 1, max_length = 256)]
    uid: Option<String>,
    #[serde(default)]
    kind: EndpointKind,
    #[serde(default)]
    description: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Also sent with each delivery.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    headers: Masked<BTreeMap<String, String>>,
    /// Patterns of the event types that the endpoint gets; all event types if it is absent.
    event_types: Option<Vec<String>>,
    /// Empty: events of all channels and without a channel.
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    policy: EndpointPolicy,
    /// `true` if it is absent.
    enabled: Option<bool>,
    /// `whsec_` and the base64 of 24 to 75 bytes; relay creates a secret if it is absent.
    #[schema(value_type = Option<String>)]
    secret: Option<Masked<String>>,
}

/// A merge patch: a field that is absent stays, and `null` sets a field to its default.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EndpointPatch)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateEndpoint {
    url: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    uid: Patch<String>,
    kind: Option<EndpointKind>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Patch<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    headers: Masked<Patch<BTreeMap<String, Option<String>>>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    channels: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<EndpointPolicy>)]
    policy: Patch<serde_json::Map<String, serde_json::Value>>,
    enabled: Option<bool>,
    #[schema(value_type = Option<String>)]
    secret: Option<Masked<String>>,
    /// How long deliveries are also signed with the previous secret, in seconds.
    overlap: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointListParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The id of a tenant, or `*` for all tenants. Without it, the tenant of the key.
    tenant: Option<String>,
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Json(create): Json<CreateEndpoint>,
) -> Result<(StatusCode, JsonResponse<EndpointView>), Problem> {
    let secret = match create.secret {
        Some(Masked(text)) => parse_secret(&text)?,
        None => secrets::generate()?,
    };
    if let Some(uid) = &create.uid {
        check_uid(api.store.ids(), uid)?;
    }
    check_description(&create.description)?;
    check_metadata(create.metadata.iter().map(|(name, value)| (name, Some(value))))?;
    check_headers(create.headers.iter().map(|(name, value)| (name, Some(value))))?;
    check_names("channels", &create.channels, MAX_CHANNELS)?;
    let new = NewEndpoint {
        uid: create.uid,
        kind: create.kind,
        description: create.description,
        metadata: create.metadata,
        headers: create.headers,
        channels: create.channels,
        policy: create.policy,
        enabled: create.enabled.unwrap_or(true),
        ..NewEndpoint::new(
            check_url(&create.url, &api.guard)?,
            parse_patterns(&create.event_types.unwrap_or_else(all_types))?,
            secret,
        )
    };
    let row = api.store.create_endpoint(tenant.seq, new).await?;
    // The sender has chosen the secret, or must know the secret that relay has created.
    let visible = Visible { payload: false, secret: true };
    let missed = missed(&api, &row, ReplayMode::Missing).await;
    Ok((StatusCode::CREATED, JsonResponse(view(&api, &row, visible)?.with_missed(missed))))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Id(id): Id,
) -> Result<JsonResponse<EndpointView>, Problem> {
    let row = api.store.endpoint(tenant.seq, parse_id(&api, &id)?).await?.ok_or_else(|| unknown(&id))?;
    Ok(JsonResponse(view(&api, &row, Visible::from(&sender))?))
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Params(params): Params<EndpointListParams>,
) -> Result<JsonResponse<ListResponse<EndpointView>>, Problem> {
    let ids = api.store.ids();
    let page = PageRequest::read(ids, IdKind::Endpoint, params.limit, params.cursor.as_deref())?;
    let tenant = tenant.of_list(&api, params.tenant.as_deref())?;
    let rows = api.store.endpoints(tenant, page.before, page.fetch()).await?;
    let id = |row: &EndpointRow| ids.format(IdKind::Endpoint, row.seq);
    // A row of a tenant that was deleted just now is left out.
    let view = |row: EndpointRow| Some(EndpointView::new(ids, &id_of(&api, row.tenant)?, &row));
    Ok(JsonResponse(page.answer(rows, id, view)))
}

pub(super) async fn update(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Id(id): Id,
    Json(update): Json<UpdateEndpoint>,
) -> Result<JsonResponse<EndpointView>, Problem> {
    if update.secret.is_some() || update.overlap.is_some() {
        sender.require(KeyScope::Secrets)?;
    }
    let seq = parse_id(&api, &id)?;
    let change = change(update, &api)?;
    let updated = api.store.update_endpoint(tenant.seq, seq, change).await?.ok_or_else(|| unknown(&id))?;
    follow_up(&api, &id, &updated).await;
    let missed = match updated.switched {
        Some(true) => missed(&api, &updated.row, ReplayMode::Skipped).await,
        _ => None,
    };
    Ok(JsonResponse(view(&api, &updated.row, Visible::from(&sender))?.with_missed(missed)))
}

/// Returns what an endpoint has missed, for the response to a change that is stored already.
async fn missed(api: &ApiState, row: &EndpointRow, mode: ReplayMode) -> Option<MissedView> {
    match api.store.missed_events(row, mode).await {
        Ok(missed) => MissedView::new(mode, missed),
        Err(error) => {
            tracing::warn!(%error, "cannot read what an endpoint has missed; its response does not show it");
            None
        }
    }
}

/// Does the work that a change of an endpoint leaves.
pub(super) async fn follow_up(api: &ApiState, id: &str, updated: &UpdatedEndpoint) {
    let UpdatedEndpoint { row, switched, url_changed } = updated;
    // In steps, between other commits. If a step fails or this future is dropped, the remaining deliveries keep their
    // due times.
    let mut may_be_more = *url_changed;
    while may_be_more {
        may_be_more = api.store.retry_now(row.tenant, row.seq).await.unwrap_or_else(|error| {
            tracing::warn!(%error, endpoint = id, "cannot make the deliveries of a changed URL due now; they keep their due times");
            false
        });
    }
    match switched {
        Some(true) => api
            .lifecycle
            .post(|| EndpointEnabled { endpoint: id.to_owned(), reason: EnabledReason::Requested }),
        Some(false) => api
            .lifecycle
            .post(|| EndpointDisabled { endpoint: id.to_owned(), reason: DisabledReason::Requested }),
        None => {}
    }
}

pub(super) async fn delete(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    if api.store.delete_endpoint(tenant.seq, parse_id(&api, &id)?).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown(&id))
    }
}

/// Checks the fields of a merge patch that are present. The absent ones may have values that are no longer allowed.
fn change(update: UpdateEndpoint, api: &ApiState) -> Result<EndpointChange, Problem> {
    let patch = |map: &BTreeMap<String, Option<String>>| {
        map.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
    };
    match update.kind {
        None | Some(EndpointKind::Http) => {}
    }
    if let Patch::Value(metadata) = &update.metadata {
        check_metadata(patch(metadata).iter().map(|(name, value)| (name, value.as_ref())))?;
    }
    if let Patch::Value(headers) = &*update.headers {
        check_headers(patch(headers).iter().map(|(name, value)| (name, value.as_ref())))?;
    }
    let uid = match update.uid {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Value(uid) => {
            check_uid(api.store.ids(), &uid)?;
            Some(Some(uid))
        }
    };
    let description = update.description.or_default();
    if let Some(description) = &description {
        check_description(description)?;
    }
    let channels = update.channels.or_default();
    if let Some(channels) = &channels {
        check_names("channels", channels, MAX_CHANNELS)?;
    }
    let patterns = match update.event_types {
        Patch::Absent => None,
        Patch::Null => Some(parse_patterns(&all_types())?),
        Patch::Value(types) => Some(parse_patterns(&types)?),
    };
    Ok(EndpointChange {
        uid,
        url: update.url.map(|url| check_url(&url, &api.guard)).transpose()?,
        description,
        metadata: update.metadata.merge(),
        headers: update.headers.0.merge().map(Masked),
        patterns,
        channels,
        policy: update.policy.merge(),
        enabled: update.enabled,
        secret: update.secret.map(|Masked(secret)| parse_secret(&secret)).transpose()?,
        overlap: update.overlap.map(check_overlap).transpose()?,
    })
}

fn all_types() -> Vec<String> {
    vec![">".to_owned()]
}

pub(super) fn check_description(description: &str) -> Result<(), Problem> {
    if description.len() > MAX_DESCRIPTION_BYTES {
        return Err(Problem::invalid(format!(
            "description has {} bytes; at most {MAX_DESCRIPTION_BYTES} are allowed",
            description.len()
        )));
    }
    Ok(())
}

/// Checks headers that are sent with each delivery. relay sets the headers of the message and of the signature itself.
pub(super) fn check_headers<'a>(
    headers: impl Iterator<Item = (&'a String, Option<&'a String>)>,
) -> Result<(), Problem> {
    for (name, value) in headers {
        let invalid = |why: &str| Err(Problem::invalid(format!("headers: {name:?} {why}")));
        let Ok(parsed) = HeaderName::try_from(name) else { return invalid("is not the name of a header") };
        let own = parsed.as_str();
        if OWN_HEADERS.contains(&own) || OWN_HEADER_PREFIXES.iter().any(|prefix| own.starts_with(prefix)) {
            return invalid("is set by relay");
        }
        if value.is_some_and(|value| value.len() > MAX_HEADER_BYTES) {
            return invalid(&format!("has a value of more than {MAX_HEADER_BYTES} bytes"));
        }
        if value.is_some_and(|value| HeaderValue::try_from(value).is_err()) {
            return invalid("has a value with characters that cannot be sent");
        }
    }
    Ok(())
}

pub(super) async fn pause(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    set_paused(&api, &sender, tenant, &id, true).await
}

pub(super) async fn resume(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    set_paused(&api, &sender, tenant, &id, false).await
}

async fn set_paused(
    api: &ApiState,
    sender: &Principal,
    tenant: Tenant,
    id: &str,
    paused: bool,
) -> Result<StatusCode, Problem> {
    let by = if sender.tenant().is_some() { PausedBy::Owner } else { PausedBy::Operator };
    let target = PauseTarget::Endpoint(tenant.seq, parse_id(api, id)?, by);
    if api.store.set_paused(target, paused).await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(id)) }
}

/// Returns the view of an endpoint for a response with it alone.
fn view(api: &ApiState, row: &EndpointRow, visible: Visible) -> Result<EndpointView, Problem> {
    let ids = api.store.ids();
    let tenant = id_of(api, row.tenant).ok_or_else(|| unknown(&ids.format(IdKind::Endpoint, row.seq)))?;
    Ok(EndpointView::alone(ids, &tenant, row, visible))
}

pub(super) fn parse_id(api: &ApiState, id: &str) -> Result<i64, Problem> {
    api.store.ids().parse(IdKind::Endpoint, id).ok_or_else(|| unknown(id))
}

pub(super) fn unknown(id: &str) -> Problem {
    Problem::not_found("endpoint", id)
}

fn check_overlap(seconds: u64) -> Result<Duration, Problem> {
    if seconds > LONGEST_OVERLAP.as_secs() {
        let longest = LONGEST_OVERLAP.as_secs();
        return Err(Problem::invalid(format!(
            "overlap is {seconds} seconds; it must be between 0 and {longest}"
        )));
    }
    Ok(Duration::from_secs(seconds))
}

pub(super) fn parse_secret(text: &str) -> Result<Secret, Problem> {
    Secret::parse(text).map_err(|error| Problem::invalid(format!("secret: {error}")))
}

pub(super) fn parse_patterns(texts: &[String]) -> Result<Vec<Pattern>, Problem> {
    if texts.is_empty() || texts.len() > MAX_PATTERNS {
        return Err(Problem::invalid(format!(
            "event_types has {} entries; send 1 to {MAX_PATTERNS}, or leave it out for all types",
            texts.len()
        )));
    }
    texts
        .iter()
        .map(|text| {
            Pattern::parse(text).map_err(|error| Problem::invalid(format!("event_types: {text:?} {error}")))
        })
        .collect()
}

/// Checks a URL and returns its normal form. The addresses of a host name are checked again each time relay connects.
pub(super) fn check_url(text: &str, guard: &AddressGuard) -> Result<String, Problem> {
    let invalid = |why: &str| Problem::invalid(format!("url: {why}"));
    if text.len() > MAX_URL_BYTES {
        return Err(invalid(&format!("is longer than {MAX_URL_BYTES} bytes")));
    }
    let url = Url::parse(text).map_err(|error| invalid(&format!("is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(&format!("has the scheme {:?}; use https or http", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("has a user name or password; receivers authenticate relay by the signature"));
    }
    if url.fragment().is_some() {
        return Err(invalid("has a fragment, which is never sent"));
    }
    if url.port() == Some(0) {
        return Err(invalid("has port 0"));
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(name)) if is_localhost(name) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(Host::Domain(name)) => {
            motet_http::Host::check_name(name).map_err(|error| invalid(&format!("host {error}")))?;
            None
        }
        None => return Err(invalid("has no host")),
    };
    if let Some(address) = address {
        guard.check(address).map_err(|blocked| invalid(&blocked.to_string()))?;
    }
    if url.as_str().parse::<http::Uri>().is_err() {
        return Err(invalid("has characters that cannot be sent in a request"));
    }
    Ok(url.into())
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_urls_are_refused_with_the_reason() {
        let guard = AddressGuard::default();
        for (url, why) in [
            ("", "not a URL"),
            ("example.com/hook", "not a URL"),
            ("http://", "not a URL"),
            ("http://a..b/", "not a name of a host"),
            ("http://-a.example/", "not a name of a host"),
            ("ftp://example.com/", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("http://user@example.com/", "user name"),
            ("http://user:secret@example.com/", "user name"),
            ("http://example.com/#part", "fragment"),
            ("http://example.com:0/", "port 0"),
            ("http://127.0.0.1/", "loopback"),
            ("http://127.1/", "loopback"),
            ("http://2130706433/", "loopback"),
            ("http://0x7f.0.0.1/", "loopback"),
            ("http://0177.0.0.1/", "loopback"),
            ("http://[::1]/", "loopback"),
            ("http://[::ffff:7f00:1]/", "loopback"),
            ("http://169.254.169.254/latest/meta-data/", "metadata"),
            ("http://localhost:9000/", "loopback"),
            ("http://LOCALHOST./", "loopback"),
            ("http://api.localhost/", "loopback"),
        ] {
            let problem = check_url(url, &guard).unwrap_err();
            assert!(problem.detail.contains(why), "{url}: {}", problem.detail);
        }
        assert!(check_url(&format!("http://example.com/{}", "a".repeat(2_048)), &guard).is_err());
    }

    #[test]
    fn valid_endpoint_urls_are_normalized() {
        let guard = AddressGuard::new(vec!["127.0.0.0/8".parse().unwrap()]);
        for (url, normal) in [
            ("https://Example.com", "https://example.com/"),
            ("https://example.com:443/hook?a=b c", "https://example.com/hook?a=b%20c"),
            ("http://127.1:9000/", "http://127.0.0.1:9000/"),
            ("http://localhost/", "http://localhost/"),
            ("http://my_service:8080/", "http://my_service:8080/"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ] {
            assert_eq!(check_url(url, &guard).unwrap(), normal);
        }
    }
}
