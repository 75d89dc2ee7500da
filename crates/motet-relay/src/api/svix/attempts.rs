//! Lists of attempts: of a message, and of an endpoint.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::error::SvixError;
use super::extract::{AppEndpoint, AppMessage, AttemptName, Page, Query, find_endpoint};
use super::messages::{filter, seq_of};
use super::views::{AttemptParts, AttemptView, List};
use crate::api::ApiState;
use crate::ids::IdKind;
use crate::store::{AttemptDetail, AttemptFilter, ListPage};

/// The conditions on attempts, and the parts that are shown.
struct AttemptQuery {
    filter: AttemptFilter,
    parts: AttemptParts,
    /// `true` if no attempt has the status.
    is_empty: bool,
}

fn read_query(query: &mut Query) -> Result<AttemptQuery, SvixError> {
    let (is_ok, is_empty) = match query.number("status")? {
        None => (None, false),
        Some(0) => (Some(true), false),
        Some(2) => (Some(false), false),
        // Pending, sending, canceled: relay records an attempt when it has ended.
        Some(1 | 3 | 4) => (None, true),
        Some(other) => return Err(SvixError::query("status", format!("{other} is not a status"))),
    };
    let status_class = match query.number("status_code_class")? {
        None => None,
        Some(class @ (100 | 200 | 300 | 400 | 500)) => Some((class / 100) as u16),
        Some(other) => {
            let message = format!("{other} is not one of 100, 200, 300, 400 and 500");
            return Err(SvixError::query("status_code_class", message));
        }
    };
    // Every attempt has one of the statuses that all versions of the clients know.
    query.flag("expanded_statuses", false)?;
    let message = query.flag("with_msg", false)?;
    let content = query.with_content()?;
    let filter = AttemptFilter { is_ok, status_class, of_event: filter(query)?, with_event: message };
    Ok(AttemptQuery { filter, parts: AttemptParts { message, content }, is_empty })
}

/// Maximum number of attempts of a page with the payloads of their messages, which may have 256 KiB each.
const MAX_WITH_PAYLOADS: usize = 16;

fn page(api: &ApiState, query: &mut Query, parts: AttemptParts) -> Result<Page, SvixError> {
    let ids = api.store.ids();
    let mut page = query.page(true, |id| ids.parse(IdKind::Attempt, id))?;
    if parts.message && parts.content {
        page.walk.limit = page.walk.limit.min(MAX_WITH_PAYLOADS);
    }
    Ok(page)
}

fn answer(
    api: &ApiState,
    page: Page,
    found: ListPage<AttemptDetail>,
    parts: AttemptParts,
) -> Result<Json<List<AttemptView>>, SvixError> {
    let ids = api.store.ids();
    let ListPage { rows, stopped_at } = found;
    let (rows, is_done) = page.cut(rows);
    let stopped_at = stopped_at.filter(|_| is_done && page.walk.is_descending);
    let last = rows.last().map(|row| seq_of(row, |detail: &AttemptDetail| detail.row.seq));
    let mut views = Vec::with_capacity(rows.len());
    for detail in rows.into_iter().flatten() {
        let view = AttemptView::new(ids, detail, parts)?;
        views.push((view.id.clone(), view));
    }
    let next = stopped_at.or_else(|| last.filter(|_| !is_done)).map(|seq| ids.format(IdKind::Attempt, seq));
    Ok(Json(List::new(views, is_done).continued_at(next)))
}

pub(super) async fn list_of_endpoint(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    mut query: Query,
) -> Result<Json<List<AttemptView>>, SvixError> {
    let AttemptQuery { filter, parts, is_empty } = read_query(&mut query)?;
    let page = page(&api, &mut query, parts)?;
    query.finish()?;
    if is_empty {
        return Ok(Json(List::new(Vec::new(), true)));
    }
    let found = api.store.attempts_of_endpoint(endpoint.app, endpoint.row.seq, filter, page.walk).await?;
    answer(&api, page, found, parts)
}

pub(super) async fn list_of_message(
    State(api): State<Arc<ApiState>>,
    message: AppMessage,
    mut query: Query,
) -> Result<Json<List<AttemptView>>, SvixError> {
    let AttemptQuery { filter, parts, is_empty } = read_query(&mut query)?;
    let page = page(&api, &mut query, parts)?;
    let AppMessage { app, row } = message;
    let endpoint = match query.text("endpoint_id") {
        None => None,
        Some(id) => {
            let found = find_endpoint(&api, app, &id).await?;
            Some(found.ok_or_else(|| SvixError::not_found("endpoint", &id))?.seq)
        }
    };
    query.finish()?;
    if is_empty {
        return Ok(Json(List::new(Vec::new(), true)));
    }
    let found = api.store.attempts_of_event(app, row.seq, endpoint, filter, page.walk).await?;
    answer(&api, page, found, parts)
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    message: AppMessage,
    AttemptName(name): AttemptName,
    mut query: Query,
) -> Result<Json<AttemptView>, SvixError> {
    let content = query.with_content()?;
    query.flag("expanded_statuses", false)?;
    query.finish()?;
    let ids = api.store.ids();
    let unknown = || SvixError::not_found("attempt", &name);
    let seq = ids.parse(IdKind::Attempt, &name).ok_or_else(unknown)?;
    let found = api.store.attempt(message.app, message.row.seq, seq).await?.ok_or_else(unknown)?;
    let parts = AttemptParts { message: false, content };
    Ok(Json(AttemptView::new(ids, found, parts)?))
}
