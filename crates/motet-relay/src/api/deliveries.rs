//! `/v1/deliveries` and `/v1/dead-letters`

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryListParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The id of a tenant, or `*` for all tenants. Without it, the tenant of the key.
    tenant: Option<String>,
    /// The id of an event.
    event_id: Option<String>,
    /// The id of an endpoint, which may be deleted.
    endpoint_id: Option<String>,
    /// The state of the deliveries.
    #[param(inline)]
    state: Option<DeliveryState>,
    /// The class of the status of the last response: `1xx` to `5xx`, or `100` to `500`.
    #[param(value_type = Option<String>, pattern = "^[1-5](xx|00)$")]
    status_class: Option<StatusClass>,
    /// Patterns of event types, separated by commas. One of them must match.
    event_types: Option<String>,
    /// A channel of the events.
    channel: Option<String>,
    /// A tag of the events.
    tag: Option<String>,
    /// Events from this time on, as in RFC 3339.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Events before this time, as in RFC 3339.
    #[param(format = DateTime)]
    until: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterListParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The id of a tenant, or `*` for all tenants. Without it, the tenant of the key.
    tenant: Option<String>,
    /// The id of an endpoint, which may be deleted.
    endpoint_id: Option<String>,
}

/// The dead letters that are sent again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedriveRequest {
    /// The id of an endpoint; all endpoints of the tenant if it is absent.
    endpoint_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Redriven)]
pub(super) struct RedriveResponse {
    /// The number of deliveries that became pending.
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
