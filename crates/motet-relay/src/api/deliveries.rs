//! `/v1/deliveries` and `/v1/dead-letters`

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::endpoints;
use super::extract::{Id, Json, Params};
use super::paging::{ListResponse, PageRequest};
use super::problem::Problem;
use super::views::{AttemptView, DeliveryDetail, DeliveryView, ListItem};
use crate::ids::IdKind;
use crate::store::{DeliveryFilter, DeliveryRow, DeliveryState, TenantSeq, Unreadable};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryListParams {
    limit: Option<usize>,
    cursor: Option<String>,
    event_id: Option<String>,
    endpoint_id: Option<String>,
    state: Option<DeliveryState>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterListParams {
    limit: Option<usize>,
    cursor: Option<String>,
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
    Params(params): Params<DeliveryListParams>,
) -> Result<JsonResponse<ListResponse<ListItem<DeliveryView>>>, Problem> {
    page(&api, params).await
}

pub(super) async fn list_dead(
    State(api): State<Arc<ApiState>>,
    Params(params): Params<DeadLetterListParams>,
) -> Result<JsonResponse<ListResponse<ListItem<DeliveryView>>>, Problem> {
    let DeadLetterListParams { limit, cursor, endpoint_id } = params;
    page(
        &api,
        DeliveryListParams { limit, cursor, event_id: None, endpoint_id, state: Some(DeliveryState::Dead) },
    )
    .await
}

async fn page(
    api: &ApiState,
    params: DeliveryListParams,
) -> Result<JsonResponse<ListResponse<ListItem<DeliveryView>>>, Problem> {
    let ids = api.store.ids();
    let page = PageRequest::read(ids, IdKind::Delivery, params.limit, params.cursor.as_deref())?;
    let event = params
        .event_id
        .map(|id| ids.parse(IdKind::Event, &id).ok_or_else(|| Problem::not_found("event", &id)))
        .transpose()?;
    let endpoint = params.endpoint_id.map(|id| endpoints::parse_id(api, &id)).transpose()?;
    let filter = DeliveryFilter { tenant: Some(TenantSeq::DEFAULT), event, endpoint, state: params.state };
    let rows = api.store.deliveries(filter, page.before, page.fetch()).await?;
    let seq = |row: &Result<DeliveryRow, Unreadable>| match row {
        Ok(row) => row.seq,
        Err(unreadable) => unreadable.seq,
    };
    let id = |row: &Result<DeliveryRow, Unreadable>| ids.format(IdKind::Delivery, seq(row));
    Ok(JsonResponse(page.answer(rows, id, |row| {
        let seq = seq(&row);
        ListItem::new(ids, IdKind::Delivery, row.map(|row| Ok(DeliveryView::new(ids, row))), seq)
    })))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    Id(id): Id,
) -> Result<JsonResponse<DeliveryDetail>, Problem> {
    let (ids, seq) = (api.store.ids(), parse_id(&api, &id)?);
    let (row, attempts) = api.store.delivery(TenantSeq::DEFAULT, seq).await?.ok_or_else(|| unknown(&id))?;
    Ok(JsonResponse(DeliveryDetail {
        delivery: DeliveryView::new(ids, row),
        attempt_log: attempts.into_iter().map(|attempt| AttemptView::new(ids, attempt)).collect(),
    }))
}

pub(super) async fn resend(State(api): State<Arc<ApiState>>, Id(id): Id) -> Result<StatusCode, Problem> {
    match api.store.resend(TenantSeq::DEFAULT, parse_id(&api, &id)?).await? {
        Some(true) => Ok(StatusCode::ACCEPTED),
        Some(false) => Err(Problem::new(StatusCode::CONFLICT, "the delivery's endpoint is deleted")),
        None => Err(unknown(&id)),
    }
}

pub(super) async fn redrive(
    State(api): State<Arc<ApiState>>,
    Json(redrive): Json<RedriveRequest>,
) -> Result<(StatusCode, JsonResponse<RedriveResponse>), Problem> {
    let endpoint = redrive.endpoint_id.map(|id| endpoints::parse_id(&api, &id)).transpose()?;
    let done = api.store.redrive(TenantSeq::DEFAULT, endpoint).await?;
    Ok((StatusCode::ACCEPTED, JsonResponse(RedriveResponse { redriven: done.redriven, more: done.more })))
}

fn parse_id(api: &ApiState, id: &str) -> Result<i64, Problem> {
    api.store.ids().parse(IdKind::Delivery, id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("delivery", id)
}
