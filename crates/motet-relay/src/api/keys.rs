//! `/v1/keys`

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::{ApiKey, Principal};
use super::extract::{Id, Json, Params};
use super::paging::{ListResponse, PageRequest};
use super::problem::Problem;
use super::tenant::find_within;
use crate::access::KeyScope;
use crate::clock::{Millis, millis, rfc3339};
use crate::masked::Masked;
use crate::store::{KeyRevocation, KeyRow, NewKey};

const MAX_NAME_BYTES: usize = 256;

/// An API key to create.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewKey)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// At most 256 bytes.
    #[serde(default)]
    name: String,
    #[schema(min_items = 1)]
    scopes: Vec<KeyScope>,
    /// The tenant of the key. Without it, all tenants, or the tenant of the key that creates it.
    tenant: Option<String>,
    /// A time as in RFC 3339. Without a time, the key expires with the key that creates it, if that expires.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// In seconds from now, in place of `expires_at`.
    expires_in: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyListParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The id of a tenant. Without it, all tenants that the key may name.
    tenant: Option<String>,
}

/// An API key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyView {
    id: String,
    /// The key in clear text. Only in the response to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key: Option<Masked<String>>,
    name: String,
    scopes: Vec<KeyScope>,
    /// `null`: all tenants.
    tenant: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The day of the last use in UTC, up to a minute late.
    #[schema(format = Date)]
    last_used_on: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

impl KeyView {
    fn new(row: KeyRow, key: Option<&ApiKey>) -> Self {
        Self {
            id: row.id,
            key: key.map(|key| Masked(key.expose().to_owned())),
            name: row.name,
            scopes: row.scopes.iter().collect(),
            tenant: row.tenant,
            created_at: rfc3339(row.created_at),
            expires_at: row.expires_at.map(rfc3339),
            last_used_on: row
                .used_on
                .map(|day| rfc3339(day).split('T').next().unwrap_or_default().to_owned()),
            revoked_at: row.revoked_at.map(rfc3339),
        }
    }
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    Json(create): Json<CreateKey>,
) -> Result<(StatusCode, JsonResponse<KeyView>), Problem> {
    if create.scopes.is_empty() {
        let all: Vec<_> = KeyScope::ALL.iter().map(|scope| scope.as_str()).collect();
        return Err(Problem::invalid(format!("scopes is empty; send one or more of {}", all.join(", "))));
    }
    if create.name.len() > MAX_NAME_BYTES {
        return Err(Problem::invalid(format!(
            "name has {} bytes; at most {MAX_NAME_BYTES} are allowed",
            create.name.len()
        )));
    }
    let expires_at = expiry(&create, api.store.clock().wall())?;
    loop {
        let key = ApiKey::generate()
            .map_err(|_| Problem::unavailable("the operating system returned no random bytes; try again"))?;
        let new = NewKey {
            id: key.id().to_owned(),
            hash: key.hash(),
            tenant: create.tenant.clone(),
            scopes: create.scopes.iter().copied().collect(),
            name: create.name.clone(),
            expires_at,
        };
        // `None` if another key has this random id.
        if let Some(row) = api.store.add_key(new, sender.creator()).await? {
            tracing::info!(id = row.id, scopes = ?row.scopes, tenant = row.tenant, "an API key was created");
            return Ok((StatusCode::CREATED, JsonResponse(KeyView::new(row, Some(&key)))));
        }
    }
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    Params(params): Params<KeyListParams>,
) -> Result<JsonResponse<ListResponse<KeyView>>, Problem> {
    let tenant = match &params.tenant {
        Some(id) => Some(find_within(&api, id, sender.tenant())?),
        None => sender.tenant(),
    };
    let mut page = PageRequest::new(params.limit)?;
    if let Some(cursor) = params.cursor {
        let unknown = format!("cursor {cursor:?} is not a 'next_cursor' of this list");
        let seq = api.store.key_seq(cursor, sender.tenant()).await?;
        page.before = Some(seq.ok_or_else(|| Problem::invalid(unknown))?);
    }
    let rows = api.store.keys(tenant, page.before, page.fetch()).await?;
    Ok(JsonResponse(page.answer(rows, |row| row.id.clone(), |row| Some(KeyView::new(row, None)))))
}

pub(super) async fn revoke(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    match api.store.revoke_key(id.clone(), sender.tenant()).await? {
        KeyRevocation::Revoked => {
            tracing::info!(id, "an API key was revoked");
            Ok(StatusCode::NO_CONTENT)
        }
        KeyRevocation::Unknown => Err(Problem::not_found("API key", &id)),
        KeyRevocation::LastAdmin => Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "{id} is the last valid key with the scope 'admin' for all tenants; create another one, then revoke it"
            ),
        )),
    }
}

/// Returns the time at which the new key expires.
fn expiry(create: &CreateKey, now: Millis) -> Result<Option<Millis>, Problem> {
    let at = match (&create.expires_at, create.expires_in) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(Problem::invalid("send expires_at or expires_in, not both")),
        (Some(text), None) => text
            .parse::<jiff::Timestamp>()
            .map_err(|error| Problem::invalid(format!("expires_at: {error}")))?
            .as_millisecond(),
        (None, Some(seconds)) => now.saturating_add(millis(Duration::from_secs(seconds))),
    };
    // Later times have no form in RFC 3339.
    if jiff::Timestamp::from_millisecond(at).is_err() {
        return Err(Problem::invalid(
            "the key would expire after the year 9999; leave expires_in out for a key without an end",
        ));
    }
    if at <= now {
        return Err(Problem::invalid(format!("the key would have expired already, at {}", rfc3339(at))));
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_expires_at_a_time_or_after_a_number_of_seconds() {
        let now = 1_700_000_000_000;
        let at = |expires_at: Option<&str>, expires_in| {
            let expires_at = expires_at.map(str::to_owned);
            let scopes = vec![KeyScope::Read];
            expiry(&CreateKey { name: String::new(), scopes, tenant: None, expires_at, expires_in }, now)
        };
        assert_eq!(at(None, None), Ok(None));
        assert_eq!(at(None, Some(60)), Ok(Some(now + 60_000)));
        assert_eq!(at(Some("2023-11-14T22:13:21Z"), None), Ok(Some(now + 1_000)));
        for (expires_at, expires_in) in [
            (Some("2023-11-14T22:13:20Z"), None),
            (Some("tomorrow"), None),
            (None, Some(0)),
            (Some("2024-01-01T00:00:00Z"), Some(1)),
            (None, Some(300_000_000_000)),
            (None, Some(u64::MAX)),
        ] {
            assert!(at(expires_at, expires_in).is_err(), "{expires_at:?} {expires_in:?}");
        }
    }
}
