//! `/v1/endpoints`

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use url::{Host, Url};

use super::ApiState;
use super::extract::{Id, Json, Params};
use super::paging::{ListResponse, PageRequest};
use super::problem::Problem;
use super::views::EndpointView;
use crate::guard::AddressGuard;
use crate::ids::IdKind;
use crate::lifecycle::{DisabledReason, EnabledReason, EndpointDisabled, EndpointEnabled};
use crate::pattern::Pattern;
use crate::signature::Secret;
use crate::store::{EndpointChange, NewEndpoint, UpdatedEndpoint};

const MAX_URL_BYTES: usize = 2_048;
const MAX_PATTERNS: usize = 64;
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateEndpoint {
    url: String,
    /// `None` selects all event types.
    event_types: Option<Vec<String>>,
    enabled: Option<bool>,
    /// `None`: relay creates a secret.
    secret: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateEndpoint {
    url: Option<String>,
    event_types: Option<Vec<String>>,
    enabled: Option<bool>,
    secret: Option<String>,
    /// How long deliveries are also signed with the previous secret, in seconds.
    overlap: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointListParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    Json(create): Json<CreateEndpoint>,
) -> Result<(StatusCode, JsonResponse<EndpointView>), Problem> {
    let secret = match create.secret {
        Some(text) => parse_secret(&text)?,
        None => Secret::generate()
            .map_err(|_| Problem::unavailable("the operating system returned no random bytes; try again"))?,
    };
    let new = NewEndpoint {
        url: check_url(&create.url, &api.guard)?,
        patterns: parse_patterns(&create.event_types.unwrap_or_else(|| vec![">".to_owned()]))?,
        enabled: create.enabled.unwrap_or(true),
        secret,
    };
    let row = api.store.create_endpoint(new).await?;
    Ok((StatusCode::CREATED, JsonResponse(EndpointView::with_secret(api.store.ids(), &row))))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    Id(id): Id,
) -> Result<JsonResponse<EndpointView>, Problem> {
    let row = api.store.endpoint(parse_id(&api, &id)?).await?.ok_or_else(|| unknown(&id))?;
    Ok(JsonResponse(EndpointView::with_secret(api.store.ids(), &row)))
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    Params(params): Params<EndpointListParams>,
) -> Result<JsonResponse<ListResponse<EndpointView>>, Problem> {
    let ids = api.store.ids();
    let page = PageRequest::read(ids, IdKind::Endpoint, params.limit, params.cursor.as_deref())?;
    let rows = api.store.endpoints(page.before, page.fetch()).await?;
    let id = |row: &crate::store::EndpointRow| ids.format(IdKind::Endpoint, row.seq);
    Ok(JsonResponse(page.answer(rows, id, |row| EndpointView::new(ids, &row))))
}

pub(super) async fn update(
    State(api): State<Arc<ApiState>>,
    Id(id): Id,
    Json(update): Json<UpdateEndpoint>,
) -> Result<JsonResponse<EndpointView>, Problem> {
    let seq = parse_id(&api, &id)?;
    let change = EndpointChange {
        url: update.url.map(|url| check_url(&url, &api.guard)).transpose()?,
        patterns: update.event_types.map(|types| parse_patterns(&types)).transpose()?,
        enabled: update.enabled,
        secret: update.secret.map(|secret| parse_secret(&secret)).transpose()?,
        overlap: update.overlap.map(check_overlap).transpose()?,
    };
    let UpdatedEndpoint { row, switched, url_changed } =
        api.store.update_endpoint(seq, change).await?.ok_or_else(|| unknown(&id))?;
    // In steps, between other commits. If a step fails or this future is dropped, the remaining deliveries keep their
    // due times.
    let mut may_be_more = url_changed;
    while may_be_more {
        may_be_more = api.store.retry_now(seq).await.unwrap_or_else(|error| {
            tracing::warn!(%error, endpoint = id, "cannot make the deliveries of a changed URL due now; they keep their due times");
            false
        });
    }
    match switched {
        Some(true) => {
            api.lifecycle.post(|| EndpointEnabled { endpoint: id, reason: EnabledReason::Requested });
        }
        Some(false) => {
            api.lifecycle.post(|| EndpointDisabled { endpoint: id, reason: DisabledReason::Requested });
        }
        None => {}
    }
    Ok(JsonResponse(EndpointView::with_secret(api.store.ids(), &row)))
}

pub(super) async fn delete(State(api): State<Arc<ApiState>>, Id(id): Id) -> Result<StatusCode, Problem> {
    if api.store.delete_endpoint(parse_id(&api, &id)?).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown(&id))
    }
}

pub(super) fn parse_id(api: &ApiState, id: &str) -> Result<i64, Problem> {
    api.store.ids().parse(IdKind::Endpoint, id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
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

fn parse_secret(text: &str) -> Result<Secret, Problem> {
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
fn check_url(text: &str, guard: &AddressGuard) -> Result<String, Problem> {
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
