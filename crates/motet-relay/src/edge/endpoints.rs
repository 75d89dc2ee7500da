//! `/v1/endpoints`

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use url::{Host, Url};

use super::Edge;
use super::extract::{Id, Json, Params};
use super::paging::{List, Page};
use super::problem::Problem;
use super::views::EndpointView;
use crate::guard::AddressGuard;
use crate::ids::Kind;
use crate::lifecycle::{DisabledBecause, EnabledBecause, EndpointDisabled, EndpointEnabled};
use crate::pattern::Pattern;
use crate::signature::Secret;
use crate::store::{EndpointChange, NewEndpoint, Updated};

const MOST_URL_BYTES: usize = 2_048;
const MOST_PATTERNS: usize = 64;
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    url: String,
    /// All event types when left out.
    event_types: Option<Vec<String>>,
    enabled: Option<bool>,
    /// Made by relay when left out.
    secret: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Update {
    url: Option<String>,
    event_types: Option<Vec<String>>,
    enabled: Option<bool>,
    secret: Option<String>,
    /// For how many seconds deliveries are signed with the secret before as well.
    overlap: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn create(
    State(app): State<Arc<Edge>>,
    Json(create): Json<Create>,
) -> Result<(StatusCode, Answer<EndpointView>), Problem> {
    let secret = match create.secret {
        Some(text) => parse_secret(&text)?,
        None => Secret::generate()
            .map_err(|_| Problem::unavailable("no random bytes from the operating system"))?,
    };
    let new = NewEndpoint {
        url: check_url(&create.url, &app.guard)?,
        patterns: parse_patterns(&create.event_types.unwrap_or_else(|| vec![">".to_owned()]))?,
        enabled: create.enabled.unwrap_or(true),
        secret,
    };
    let row = app.store.create_endpoint(new).await?;
    Ok((StatusCode::CREATED, Answer(EndpointView::with_secret(app.store.ids(), &row))))
}

pub(super) async fn read(State(app): State<Arc<Edge>>, Id(id): Id) -> Result<Answer<EndpointView>, Problem> {
    let row = app.store.endpoint(parse_id(&app, &id)?).await?.ok_or_else(|| unknown(&id))?;
    Ok(Answer(EndpointView::with_secret(app.store.ids(), &row)))
}

pub(super) async fn list(
    State(app): State<Arc<Edge>>,
    Params(params): Params<ListParams>,
) -> Result<Answer<List<EndpointView>>, Problem> {
    let ids = app.store.ids();
    let page = Page::read(ids, Kind::Endpoint, params.limit, params.cursor.as_deref())?;
    let rows = app.store.endpoints(page.before, page.fetch()).await?;
    let id = |row: &crate::store::EndpointRow| ids.format(Kind::Endpoint, row.seq);
    Ok(Answer(page.answer(rows, id, |row| EndpointView::new(ids, &row))))
}

pub(super) async fn update(
    State(app): State<Arc<Edge>>,
    Id(id): Id,
    Json(update): Json<Update>,
) -> Result<Answer<EndpointView>, Problem> {
    let seq = parse_id(&app, &id)?;
    let change = EndpointChange {
        url: update.url.map(|url| check_url(&url, &app.guard)).transpose()?,
        patterns: update.event_types.map(|types| parse_patterns(&types)).transpose()?,
        enabled: update.enabled,
        secret: update.secret.map(|secret| parse_secret(&secret)).transpose()?,
        overlap: update.overlap.map(check_overlap).transpose()?,
    };
    let Updated { row, switched, is_moved } =
        app.store.update_endpoint(seq, change).await?.ok_or_else(|| unknown(&id))?;
    // In steps, between other commits. What is left out where this fails or is dropped keeps its time.
    let mut may_be_more = is_moved;
    while may_be_more {
        may_be_more = app.store.hasten(seq).await.unwrap_or_else(|error| {
            tracing::warn!(%error, endpoint = id, "deliveries to a changed URL keep their times");
            false
        });
    }
    match switched {
        Some(true) => {
            app.lifecycle.tell(|| EndpointEnabled { endpoint: id, because: EnabledBecause::Asked });
        }
        Some(false) => {
            app.lifecycle.tell(|| EndpointDisabled { endpoint: id, because: DisabledBecause::Asked });
        }
        None => {}
    }
    Ok(Answer(EndpointView::with_secret(app.store.ids(), &row)))
}

pub(super) async fn delete(State(app): State<Arc<Edge>>, Id(id): Id) -> Result<StatusCode, Problem> {
    if app.store.delete_endpoint(parse_id(&app, &id)?).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown(&id))
    }
}

pub(super) fn parse_id(app: &Edge, id: &str) -> Result<i64, Problem> {
    app.store.ids().parse(Kind::Endpoint, id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("endpoint", id)
}

fn check_overlap(seconds: u64) -> Result<Duration, Problem> {
    if seconds > LONGEST_OVERLAP.as_secs() {
        let longest = LONGEST_OVERLAP.as_secs();
        return Err(Problem::invalid(format!(
            "overlap is {seconds} seconds; it must be from 0 to {longest}"
        )));
    }
    Ok(Duration::from_secs(seconds))
}

fn parse_secret(text: &str) -> Result<Secret, Problem> {
    Secret::parse(text).map_err(|error| Problem::invalid(format!("secret: {error}")))
}

pub(super) fn parse_patterns(texts: &[String]) -> Result<Vec<Pattern>, Problem> {
    if texts.is_empty() || texts.len() > MOST_PATTERNS {
        return Err(Problem::invalid(format!(
            "event_types has {} entries; give 1 to {MOST_PATTERNS}, or leave it out for all types",
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

/// Checks a URL and gives it in normal form. Names are checked again, by their addresses, at each dial.
fn check_url(text: &str, guard: &AddressGuard) -> Result<String, Problem> {
    let invalid = |why: &str| Problem::invalid(format!("url: {why}"));
    if text.len() > MOST_URL_BYTES {
        return Err(invalid(&format!("is longer than {MOST_URL_BYTES} bytes")));
    }
    let url = Url::parse(text).map_err(|error| invalid(&format!("is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(&format!("has the scheme {:?}; use https or http", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("holds a user name or password; the signature tells the receiver who calls"));
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
        return Err(invalid("holds characters that cannot be sent in a request"));
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
    fn valid_urls_are_normalized() {
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
