//! `/v1/events/erase` and `/v1/erasures`: the data of all events of a tenant is erased, in small steps.

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Principal;
use super::extract::Id;
use super::problem::Problem;
use super::tenant::{Tenant, id_of};
use crate::clock::rfc3339;
use crate::ids::IdKind;
use crate::store::{ErasedUid, ErasureKind, ErasureRow};

/// The object of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErasureOf {
    /// The data of the events that the tenant had at the beginning, and the responses to their attempts.
    Payloads,
    /// A deleted tenant, with all that it owned.
    Tenant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErasureState {
    Running,
    /// The bytes are in no file of the store any more.
    Finished,
}

/// An erasure of many events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub(super) struct ErasureView {
    id: String,
    of: ErasureOf,
    /// The id of the tenant; `null` if it is deleted.
    tenant: Option<String>,
    state: ErasureState,
    /// Number of events that are erased so far.
    events: u64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
}

impl ErasureView {
    fn new(api: &ApiState, row: &ErasureRow) -> Self {
        let of = match row.kind {
            ErasureKind::Payloads(_) => ErasureOf::Payloads,
            ErasureKind::Tenant => ErasureOf::Tenant,
        };
        let state = if row.finished_at.is_some() { ErasureState::Finished } else { ErasureState::Running };
        Self {
            id: api.store.ids().format(IdKind::Erasure, row.seq),
            of,
            tenant: id_of(api, row.tenant).map(|id| id.to_string()),
            state,
            events: row.events,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
            finished_at: row.finished_at.map(rfc3339),
        }
    }
}

/// Begins to erase the data of all events of the tenant.
pub(super) async fn begin(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
) -> Result<(StatusCode, JsonResponse<ErasureView>), Problem> {
    let row = api.store.erase_payloads(tenant.seq, ErasedUid::Erased).await?;
    tracing::info!(erasure = row.seq, "the data of all events of a tenant is being erased");
    Ok((StatusCode::ACCEPTED, JsonResponse(ErasureView::new(&api, &row))))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    Id(id): Id,
) -> Result<JsonResponse<ErasureView>, Problem> {
    let unknown = || Problem::not_found("erasure", &id);
    let seq = api.store.ids().parse(IdKind::Erasure, &id).ok_or_else(unknown)?;
    let row = api.store.erasure(sender.tenant(), seq).await?.ok_or_else(unknown)?;
    Ok(JsonResponse(ErasureView::new(&api, &row)))
}
