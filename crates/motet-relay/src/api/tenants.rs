//! `/v1/tenants`

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::extract::{Json, Params, TenantId};
use super::names::{check_metadata, check_own_form};
use super::paging::{ListResponse, PageRequest};
use super::patch::Patch;
use super::problem::Problem;
use super::tenant::Tenant;
use crate::clock::rfc3339;
use crate::ids::IdKind;
use crate::store::{NewTenant, PauseTarget, TenantChange, TenantPolicy, TenantRow, TenantSeq};

const MAX_ID_CHARACTERS: usize = 64;
const MAX_NAME_CHARACTERS: usize = 256;

/// Ids that begin with this character are kept for relay itself.
const RESERVED: char = '_';

/// The fields of a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TenantFields)]
#[serde(deny_unknown_fields)]
pub(super) struct PutTenant {
    #[serde(default)]
    name: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    policy: TenantPolicy,
}

/// A merge patch: a field that is absent stays, and `null` sets a field to its default.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TenantPatch)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateTenant {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Patch<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    #[schema(value_type = Option<TenantPolicy>)]
    policy: Patch<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantListParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// A tenant: an owner of endpoints and events, which sees no resource of another tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(super) struct TenantView {
    id: String,
    name: String,
    metadata: BTreeMap<String, String>,
    policy: TenantPolicy,
    /// `true` if the deliveries of the tenant wait until it is resumed.
    paused: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl TenantView {
    fn new(row: TenantRow) -> Self {
        let TenantRow { id, name, metadata, policy, paused, created_at, updated_at, .. } = row;
        let (created_at, updated_at) = (rfc3339(created_at), rfc3339(updated_at));
        Self { id, name, metadata, policy, paused, created_at, updated_at }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedTenant {
    /// Number of pending deliveries that end with the tenant.
    pending_deliveries: u64,
    /// The id of the erasure, which has finished when no file of the store has data of the tenant any more.
    erasure_id: String,
}

/// Creates a tenant, or replaces its fields.
pub(super) async fn put(
    State(api): State<Arc<ApiState>>,
    TenantId(id): TenantId,
    Json(put): Json<PutTenant>,
) -> Result<(StatusCode, JsonResponse<TenantView>), Problem> {
    check_id(&id)?;
    // Only relay itself chooses ids of this form, for tenants whose creator has chosen none.
    if api.store.tenant_names().find(&id).is_none() {
        check_own_form(api.store.ids(), "the id of the tenant", &id)?;
    }
    check_name(&put.name)?;
    check_metadata(put.metadata.iter().map(|(name, value)| (name, Some(value))))?;
    let PutTenant { name, metadata, policy } = put;
    let (row, is_new) = api.store.put_tenant(id, NewTenant { name, metadata, policy }).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, JsonResponse(TenantView::new(row))))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    TenantId(id): TenantId,
) -> Result<JsonResponse<TenantView>, Problem> {
    let row = api.store.tenant(tenant.seq).await?.ok_or_else(|| unknown(&id))?;
    Ok(JsonResponse(TenantView::new(row)))
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    Params(params): Params<TenantListParams>,
) -> Result<JsonResponse<ListResponse<TenantView>>, Problem> {
    let ids = api.store.ids();
    let page = PageRequest::read(ids, IdKind::Tenant, params.limit, params.cursor.as_deref())?;
    let rows = api.store.tenants(page.before, page.fetch()).await?;
    let cursor = |row: &TenantRow| ids.format(IdKind::Tenant, row.seq.number());
    Ok(JsonResponse(page.answer(rows, cursor, |row| Some(TenantView::new(row)))))
}

pub(super) async fn update(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    TenantId(id): TenantId,
    Json(update): Json<UpdateTenant>,
) -> Result<JsonResponse<TenantView>, Problem> {
    let name = update.name.or_default();
    if let Some(name) = &name {
        check_name(name)?;
    }
    if let Patch::Value(metadata) = &update.metadata {
        check_metadata(metadata.iter().map(|(name, value)| (name, value.as_ref())))?;
    }
    let change =
        TenantChange { id: None, name, metadata: update.metadata.merge(), policy: update.policy.merge() };
    let row = api.store.update_tenant(tenant.seq, change).await?.ok_or_else(|| unknown(&id))?;
    Ok(JsonResponse(TenantView::new(row)))
}

pub(super) async fn delete(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    TenantId(id): TenantId,
) -> Result<JsonResponse<DeletedTenant>, Problem> {
    if tenant.seq == TenantSeq::DEFAULT {
        return Err(Problem::new(StatusCode::CONFLICT, format!("the tenant {id:?} cannot be deleted")));
    }
    let deleted = api.store.delete_tenant(tenant.seq).await?;
    let (pending_deliveries, erasure) = deleted.ok_or_else(|| unknown(&id))?;
    tracing::info!(tenant = id, pending_deliveries, "a tenant was deleted");
    let erasure_id = api.store.ids().format(IdKind::Erasure, erasure);
    Ok(JsonResponse(DeletedTenant { pending_deliveries, erasure_id }))
}

pub(super) async fn pause(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    TenantId(id): TenantId,
) -> Result<StatusCode, Problem> {
    set_paused(&api, tenant, &id, true).await
}

pub(super) async fn resume(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    TenantId(id): TenantId,
) -> Result<StatusCode, Problem> {
    set_paused(&api, tenant, &id, false).await
}

async fn set_paused(api: &ApiState, tenant: Tenant, id: &str, paused: bool) -> Result<StatusCode, Problem> {
    if api.store.set_paused(PauseTarget::Tenant(tenant.seq), paused).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown(id))
    }
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("tenant", id)
}

fn check_id(id: &str) -> Result<(), Problem> {
    let characters = id.chars().count();
    if characters == 0 || characters > MAX_ID_CHARACTERS {
        return Err(Problem::invalid(format!(
            "the id of the tenant has {characters} characters; send 1 to {MAX_ID_CHARACTERS}"
        )));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if let Some(bad) = id.chars().find(|c| !is_allowed(*c)) {
        return Err(Problem::invalid(format!(
            "the id of the tenant has {bad:?}; ids are made of ASCII letters, digits, '_', '.' and '-'"
        )));
    }
    // A path segment of dots alone has a meaning of its own in a URL.
    if id.chars().all(|c| c == '.') || id.starts_with(RESERVED) {
        return Err(Problem::invalid(format!("the id {id:?} is reserved")));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Problem> {
    let characters = name.chars().count();
    if characters > MAX_NAME_CHARACTERS {
        return Err(Problem::invalid(format!(
            "name has {characters} characters; at most {MAX_NAME_CHARACTERS} are allowed"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_tenants_are_checked() {
        for id in ["", "a b", "a/b", "é", "_own", ".", "..", "*", &"a".repeat(65)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        for id in ["a", "Acme-1.eu_2", "0", "a_", &"a".repeat(64)] {
            assert!(check_id(id).is_ok(), "{id:?}");
        }
    }
}
