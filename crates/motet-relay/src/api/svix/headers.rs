//! `/api/v1/app/{app}/endpoint/{endpoint}/headers`: the headers that are sent with each delivery of an endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{SvixError, in_field};
use super::extract::{AppEndpoint, Body};
use super::views::HeadersView;
use crate::access::KeyScope;
use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::endpoints::check_headers;
use crate::masked::Masked;
use crate::store::{EndpointChange, Merge};

/// Headers whose values are never shown; compared in lower case.
const SENSITIVE: [&str; 8] = [
    "authorization",
    "cookie",
    "x-access-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-secret",
    "x-token",
];

pub(super) fn is_sensitive(name: &str) -> bool {
    SENSITIVE.contains(&name.to_ascii_lowercase().as_str())
}

/// All headers of an endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EndpointHeadersIn)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadersIn {
    #[schema(value_type = BTreeMap<String, String>)]
    headers: Masked<BTreeMap<String, String>>,
}

/// A change of the headers of an endpoint: `null` removes a header.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EndpointHeadersPatchIn)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HeadersPatch {
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    headers: Masked<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    delete_headers: Option<Vec<String>>,
}

/// Checks the headers of an endpoint.
pub(super) fn check(headers: &BTreeMap<String, String>) -> Result<(), SvixError> {
    check_headers(headers.iter().map(|(name, value)| (name, Some(value)))).map_err(in_field("headers"))
}

pub(super) async fn read(endpoint: AppEndpoint, sender: Principal) -> Json<HeadersView> {
    Json(HeadersView::new(&endpoint.row, sender.allows(KeyScope::Secrets)))
}

pub(super) async fn put(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    Body(HeadersIn { headers: Masked(headers) }): Body<HeadersIn>,
) -> Result<StatusCode, SvixError> {
    check(&headers)?;
    let headers = Some(Masked(Merge::Replace(headers)));
    write(&api, endpoint, EndpointChange { headers, ..EndpointChange::default() }).await
}

pub(super) async fn patch(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    Body(HeadersPatch { headers: Masked(headers), delete_headers }): Body<HeadersPatch>,
) -> Result<StatusCode, SvixError> {
    check_headers(headers.iter().map(|(name, value)| (name, value.as_ref()))).map_err(in_field("headers"))?;
    let mut patch = BTreeMap::new();
    // The names of headers are compared without regard to case.
    for name in headers.keys().chain(delete_headers.iter().flatten()) {
        let same = endpoint.row.headers.keys().filter(|known| known.eq_ignore_ascii_case(name));
        patch.extend(same.map(|known| (known.clone(), None)));
    }
    patch.extend(headers);
    let headers = Some(Masked(Merge::Patch(patch)));
    write(&api, endpoint, EndpointChange { headers, ..EndpointChange::default() }).await
}

async fn write(
    api: &ApiState,
    endpoint: AppEndpoint,
    change: EndpointChange,
) -> Result<StatusCode, SvixError> {
    let AppEndpoint { app, row } = endpoint;
    match api.store.update_endpoint(app, row.seq, change).await? {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        // It was deleted in between.
        None => Err(SvixError::not_found("endpoint", row.uid.as_deref().unwrap_or_default())),
    }
}
