//! `/v1/endpoints/{id}/secret`: the signing secret of an endpoint.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonResponse;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::endpoints::{follow_up, parse_id, parse_secret, unknown};
use super::extract::{Id, Json};
use super::problem::Problem;
use super::tenant::Tenant;
use crate::clock::rfc3339;
use crate::masked::Masked;
use crate::signature::Secret;
use crate::store::{EndpointChange, EndpointRow};

/// Default and maximum of the time in which a replaced secret stays valid.
const OVERLAP_HOURS: u64 = 24;
const MAX_OVERLAP_HOURS: u64 = 7 * 24;

/// A new secret.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewSecret)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateSecret {
    /// `whsec_` and the base64 of 24 to 75 bytes; relay creates a secret if it is absent.
    #[schema(value_type = Option<String>)]
    secret: Option<Masked<String>>,
    /// How long deliveries are also signed with the replaced secret; 0 ends it, and all earlier ones, at once.
    #[schema(maximum = 168, default = 24)]
    overlap_hours: Option<u64>,
}

/// The signing secret of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Secret)]
pub(super) struct SecretView {
    #[schema(value_type = String)]
    secret: Masked<String>,
    /// Until when deliveries are also signed with replaced secrets; `null` if there are none.
    #[schema(format = DateTime)]
    previous_valid_until: Option<String>,
}

impl SecretView {
    fn new(api: &ApiState, row: &EndpointRow) -> Result<Self, Problem> {
        let clock = api.store.clock();
        let until = row.old_secrets.valid_until(clock.due_now());
        let previous_valid_until = until.map(|until| rfc3339(clock.to_calendar(until)));
        Ok(Self { secret: Masked(row.secret()?.expose()), previous_valid_until })
    }
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Id(id): Id,
) -> Result<JsonResponse<SecretView>, Problem> {
    let row = api.store.endpoint(tenant.seq, parse_id(&api, &id)?).await?.ok_or_else(|| unknown(&id))?;
    SecretView::new(&api, &row).map(JsonResponse)
}

/// Replaces the secret.
pub(super) async fn rotate(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Id(id): Id,
    Json(rotate): Json<RotateSecret>,
) -> Result<JsonResponse<SecretView>, Problem> {
    let seq = parse_id(&api, &id)?;
    let hours = rotate.overlap_hours.unwrap_or(OVERLAP_HOURS);
    if hours > MAX_OVERLAP_HOURS {
        return Err(Problem::invalid(format!(
            "overlap_hours is {hours}; it must be between 0 and {MAX_OVERLAP_HOURS}"
        )));
    }
    let secret = match rotate.secret {
        Some(Masked(text)) => parse_secret(&text)?,
        None => generate()?,
    };
    let overlap = Some(Duration::from_secs(hours * 60 * 60));
    let change = EndpointChange { secret: Some(secret), overlap, ..EndpointChange::default() };
    let updated = api.store.update_endpoint(tenant.seq, seq, change).await?.ok_or_else(|| unknown(&id))?;
    follow_up(&api, &id, &updated).await;
    SecretView::new(&api, &updated.row).map(JsonResponse)
}

/// Creates a secret.
pub(super) fn generate() -> Result<Secret, Problem> {
    Secret::generate()
        .map_err(|_| Problem::unavailable("the operating system returned no random bytes; try again"))
}
