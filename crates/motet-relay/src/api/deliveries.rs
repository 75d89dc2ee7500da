//! `/v1/deliveries` and `/v1/dead-letters`

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::auth::Principal;
use super::endpoints;
use super::extract::{Id, Json, Params};
use super::filters::{EventParams, StatusClass};
use super::paging::{ListResponse, PageRequest};
use super::problem::Problem;
use super::tenant::{Tenant, id_of};
use super::views::{AttemptView, DeliveryDetail, DeliveryView, ListItem, Visible};
use crate::ids::IdKind;
use crate::store::{DeliveryFilter, DeliveryRow, DeliveryState, TenantSeq, Unreadable};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryListParams {
    limit: Option<usize>,
    cursor: Option<String>,
    tenant: Option<String>,
    event_id: Option<String>,
    endpoint_id: Option<String>,
    state: Option<DeliveryState>,
    status_class: Option<StatusClass>,
    event_types: Option<String>,
    channel: Option<String>,
    tag: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterListParams {
    limit: Option<usize>,
    cursor: Option<String>,
    tenant: Option<String>,
    endpoint_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedriveRequest {
    /// `None` selects all endpoints.
    endpoint_id: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct RedriveResponse {
    redriven: usize,
    /// `true` if another call would find more dead letters.
    more: bool,
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Params(params): Params<DeliveryListParams>,
) -> Result<JsonResponse<ListResponse<ListItem<DeliveryView>>>, Problem> {
    page(&api, tenant, params).await
}

pub(super) async fn list_dead(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Params(params): Params<DeadLetterListParams>,
) -> Result<JsonResponse<ListResponse<ListItem<DeliveryView>>>, Problem> {
    let DeadLetterListParams { limit, cursor, tenant: wanted, endpoint_id } = params;
    page(
        &api,
        tenant,
        DeliveryListParams {
            limit,
            cursor,
            tenant: wanted,
            endpoint_id,
            state: Some(DeliveryState::Dead),
            ..DeliveryListParams::default()
        },
    )
    .await
}

async fn page(
    api: &ApiState,
    tenant: Tenant,
    params: DeliveryListParams,
) -> Result<JsonResponse<ListResponse<ListItem<DeliveryView>>>, Problem> {
    let ids = api.store.ids();
    let page = PageRequest::read(ids, IdKind::Delivery, params.limit, params.cursor.as_deref())?;
    let tenant = tenant.of_list(api, params.tenant.as_deref())?;
    let event = match &params.event_id {
        Some(id) => Some(find_event(api, tenant, id).await?),
        None => None,
    };
    let endpoint = match &params.endpoint_id {
        Some(id) => Some(find_endpoint(api, tenant, id).await?),
        None => None,
    };
    let DeliveryListParams { state, status_class, event_types, channel, tag, since, until, .. } = params;
    let of_event = EventParams { event_types, channel, tag, since, until }.filter()?;
    let status_class = status_class.map(|StatusClass(class)| class);
    let filter = DeliveryFilter { tenant, event, endpoint, state, status_class, of_event };
    let found = api.store.deliveries(filter, page.before, page.fetch()).await?;
    let stopped_at = found.stopped_at.map(|seq| ids.format(IdKind::Delivery, seq));
    let seq = |row: &Result<DeliveryRow, Unreadable>| match row {
        Ok(row) => row.seq,
        Err(unreadable) => unreadable.seq,
    };
    let id = |row: &Result<DeliveryRow, Unreadable>| ids.format(IdKind::Delivery, seq(row));
    Ok(JsonResponse(page.answer_of_scan(found.rows, stopped_at, id, |row| {
        let seq = seq(&row);
        // A row of a tenant that was deleted just now is left out.
        let view = match row {
            Ok(row) => Ok(Ok(DeliveryView::new(ids, &id_of(api, row.tenant)?, row))),
            Err(unreadable) => Err(unreadable),
        };
        Some(ListItem::new(ids, IdKind::Delivery, view, seq))
    })))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Id(id): Id,
) -> Result<JsonResponse<DeliveryDetail>, Problem> {
    let (ids, seq) = (api.store.ids(), parse_id(&api, &id)?);
    let (row, attempts) = api.store.delivery(tenant.seq, seq).await?.ok_or_else(|| unknown(&id))?;
    let tenant = id_of(&api, row.tenant).ok_or_else(|| unknown(&id))?;
    let visible = Visible::from(&sender);
    Ok(JsonResponse(DeliveryDetail {
        delivery: DeliveryView::new(ids, &tenant, row),
        attempt_log: attempts.into_iter().map(|attempt| AttemptView::new(ids, attempt, visible)).collect(),
    }))
}

pub(super) async fn resend(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    match api.store.resend(tenant.seq, parse_id(&api, &id)?).await? {
        Some(true) => Ok(StatusCode::ACCEPTED),
        Some(false) => Err(Problem::new(StatusCode::CONFLICT, "the delivery's endpoint is deleted")),
        None => Err(unknown(&id)),
    }
}

pub(super) async fn redrive(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Json(redrive): Json<RedriveRequest>,
) -> Result<(StatusCode, JsonResponse<RedriveResponse>), Problem> {
    let endpoint = match &redrive.endpoint_id {
        Some(id) => Some(find_endpoint(&api, Some(tenant.seq), id).await?),
        None => None,
    };
    let done = api.store.redrive(tenant.seq, endpoint).await?;
    Ok((StatusCode::ACCEPTED, JsonResponse(RedriveResponse { redriven: done.redriven, more: done.more })))
}

/// Returns the number of an event of the tenant, or of any tenant.
async fn find_event(api: &ApiState, tenant: Option<TenantSeq>, id: &str) -> Result<i64, Problem> {
    let found = api.store.ids().parse(IdKind::Event, id);
    match found {
        Some(event) if api.store.has_event(tenant, event).await? => Ok(event),
        _ => Err(Problem::not_found("event", id)),
    }
}

/// Returns the number of an endpoint of the tenant, or of any tenant. The endpoint may be deleted: its deliveries remain.
async fn find_endpoint(api: &ApiState, tenant: Option<TenantSeq>, id: &str) -> Result<i64, Problem> {
    let endpoint = endpoints::parse_id(api, id)?;
    match tenant {
        Some(tenant) if !api.store.had_endpoint(tenant, endpoint).await? => {
            Err(Problem::not_found("endpoint", id))
        }
        _ => Ok(endpoint),
    }
}

fn parse_id(api: &ApiState, id: &str) -> Result<i64, Problem> {
    api.store.ids().parse(IdKind::Delivery, id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("delivery", id)
}
