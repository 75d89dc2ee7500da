//! `/v1/deliveries` and `/v1/dead-letters`

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Edge;
use super::endpoints;
use super::extract::{Id, Json, Params};
use super::paging::{List, Page};
use super::problem::Problem;
use super::views::{AttemptView, DeliveryDetail, DeliveryView, Item};
use crate::ids::Kind;
use crate::store::{DeliveryFilter, DeliveryRow, DeliveryState, Unreadable};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
    event_id: Option<String>,
    endpoint_id: Option<String>,
    state: Option<DeliveryState>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadParams {
    limit: Option<usize>,
    cursor: Option<String>,
    endpoint_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redrive {
    /// All endpoints when left out.
    endpoint_id: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Redriven {
    redriven: usize,
    /// Whether a further call would find more.
    more: bool,
}

pub(super) async fn list(
    State(app): State<Arc<Edge>>,
    Params(params): Params<ListParams>,
) -> Result<Answer<List<Item<DeliveryView>>>, Problem> {
    page(&app, params).await
}

pub(super) async fn list_dead(
    State(app): State<Arc<Edge>>,
    Params(params): Params<DeadParams>,
) -> Result<Answer<List<Item<DeliveryView>>>, Problem> {
    let DeadParams { limit, cursor, endpoint_id } = params;
    page(&app, ListParams { limit, cursor, event_id: None, endpoint_id, state: Some(DeliveryState::Dead) })
        .await
}

async fn page(app: &Edge, params: ListParams) -> Result<Answer<List<Item<DeliveryView>>>, Problem> {
    let ids = app.store.ids();
    let page = Page::read(ids, Kind::Delivery, params.limit, params.cursor.as_deref())?;
    let event = params
        .event_id
        .map(|id| ids.parse(Kind::Event, &id).ok_or_else(|| Problem::not_found("event", &id)))
        .transpose()?;
    let endpoint = params.endpoint_id.map(|id| endpoints::parse_id(app, &id)).transpose()?;
    let filter = DeliveryFilter { event, endpoint, state: params.state };
    let rows = app.store.deliveries(filter, page.before, page.fetch()).await?;
    let seq = |row: &Result<DeliveryRow, Unreadable>| match row {
        Ok(row) => row.seq,
        Err(unreadable) => unreadable.seq,
    };
    let id = |row: &Result<DeliveryRow, Unreadable>| ids.format(Kind::Delivery, seq(row));
    Ok(Answer(page.answer(rows, id, |row| {
        let seq = seq(&row);
        Item::new(ids, Kind::Delivery, row.map(|row| Ok(DeliveryView::new(ids, row))), seq)
    })))
}

pub(super) async fn read(
    State(app): State<Arc<Edge>>,
    Id(id): Id,
) -> Result<Answer<DeliveryDetail>, Problem> {
    let seq = parse_id(&app, &id)?;
    let (row, attempts) = app.store.delivery(seq).await?.ok_or_else(|| unknown(&id))?;
    Ok(Answer(DeliveryDetail {
        delivery: DeliveryView::new(app.store.ids(), row),
        attempt_log: (1..).zip(attempts).map(|(number, attempt)| AttemptView::new(number, attempt)).collect(),
    }))
}

pub(super) async fn resend(State(app): State<Arc<Edge>>, Id(id): Id) -> Result<StatusCode, Problem> {
    match app.store.resend(parse_id(&app, &id)?).await? {
        Some(true) => Ok(StatusCode::ACCEPTED),
        Some(false) => Err(Problem::new(StatusCode::CONFLICT, "the delivery's endpoint is deleted")),
        None => Err(unknown(&id)),
    }
}

pub(super) async fn redrive(
    State(app): State<Arc<Edge>>,
    Json(redrive): Json<Redrive>,
) -> Result<(StatusCode, Answer<Redriven>), Problem> {
    let endpoint = redrive.endpoint_id.map(|id| endpoints::parse_id(&app, &id)).transpose()?;
    let done = app.store.redrive(endpoint).await?;
    Ok((StatusCode::ACCEPTED, Answer(Redriven { redriven: done.redriven, more: done.more })))
}

fn parse_id(app: &Edge, id: &str) -> Result<i64, Problem> {
    app.store.ids().parse(Kind::Delivery, id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("delivery", id)
}
