//! `/api/v1/app/{app}/msg`: a message is an event, and its payload is the event's data.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;

use super::apps::{ApplicationIn, find_or_create};
use super::error::{SvixError, in_field};
use super::extract::{
    App, AppEndpoint, AppMessage, AppTarget, Body, EndpointName, IdempotencyKey, Query, find_endpoint,
    parse_message_id, read_json,
};
use super::views::{EmptyView, EndpointView, List, MessageView, PrecheckView, WithStatus};
use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::body::MAX_DATA_BYTES;
use crate::api::endpoints::{MAX_CHANNELS, parse_patterns};
use crate::api::events::{MAX_EVENT_CHANNELS, MAX_KEY_BYTES, MAX_TAGS};
use crate::api::names::{check_names, check_uid};
use crate::api::problem::Problem;
use crate::clock::Millis;
use crate::ids::{IdKind, Ids};
use crate::json;
use crate::pattern::EventType;
use crate::store::{
    DeliveryFilter, DeliveryRow, DeliveryState, EndpointRow, EventFilter, EventRow, ListPage, NewEvent,
    OnceKind, Published, Quota, QuotaExceeded, TenantSeq, Unreadable, Walk,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest time that a payload can be kept.
const MAX_RETENTION_DAYS: u64 = 3_650;
const HOUR: Millis = 60 * 60 * 1_000;

/// Clients do not repeat a request that was refused for its rate, so it waits this long before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// Number of endpoints that one read of a precheck returns.
const PRECHECK_PAGE: usize = 250;

/// A message to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct MessageIn {
    event_type: String,
    /// An object of at most 262 144 bytes. Receivers get the same bytes.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    event_id: Option<String>,
    channels: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    /// Refused: relay does not send messages at a later time yet.
    deliver_at: Option<String>,
    payload_retention_period: Option<u64>,
    payload_retention_hours: Option<u64>,
    /// Creates the application if it does not exist.
    application: Option<ApplicationIn>,
    /// Refused unless it is empty: relay has no transformations.
    transformations_params: Option<Value>,
}

/// A message that may be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PrecheckIn {
    event_type: String,
    channels: Option<Vec<String>>,
}

impl MessageIn {
    fn check(self, ids: Ids, headers: &HeaderMap) -> Result<(NewEvent, Option<ApplicationIn>), SvixError> {
        if self.deliver_at.is_some() {
            return Err(SvixError::body("deliverAt", "relay does not send messages at a later time yet"));
        }
        let has_params = |params: &Value| params.as_object().is_none_or(|params| !params.is_empty());
        if self.transformations_params.as_ref().is_some_and(has_params) {
            return Err(SvixError::body("transformationsParams", "relay has no transformations"));
        }
        let payload = self.payload.get();
        if !payload.starts_with('{') {
            return Err(SvixError::body("payload", "payload must be an object"));
        }
        if payload.len() > MAX_DATA_BYTES {
            let detail = format!("payload has {} bytes; at most {MAX_DATA_BYTES} are allowed", payload.len());
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into());
        }
        json::check(payload).map_err(|unfit| SvixError::body("payload", format!("payload: {unfit}")))?;
        if let Some(uid) = &self.event_id {
            check_uid(ids, uid).map_err(in_field("eventId"))?;
        }
        let (channels, tags) = (self.channels.unwrap_or_default(), self.tags.unwrap_or_default());
        check_names("channels", &channels, MAX_EVENT_CHANNELS).map_err(in_field("channels"))?;
        check_names("tags", &tags, MAX_TAGS).map_err(in_field("tags"))?;
        let event = NewEvent {
            idempotency_key: idempotency_key(headers)?,
            uid: self.event_id,
            channels,
            tags,
            keep_ms: retention(self.payload_retention_period, self.payload_retention_hours)?,
            ..NewEvent::new(parse_type(&self.event_type)?, self.payload)
        };
        Ok((event, self.application))
    }
}

pub(super) fn parse_type(text: &str) -> Result<EventType, SvixError> {
    EventType::parse(text)
        .map_err(|error| SvixError::body("eventType", format!("eventType: {text:?} {error}")))
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, SvixError> {
    let Some(header) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match header.to_str() {
        Ok(key) if (1..=MAX_KEY_BYTES).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => {
            let detail = format!("idempotency-key must have 1 to {MAX_KEY_BYTES} visible ASCII characters");
            Err(Problem::invalid(detail).into())
        }
    }
}

fn retention(days: Option<u64>, hours: Option<u64>) -> Result<Option<Millis>, SvixError> {
    let (field, amount, unit) = match (days, hours) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let message = "send either payloadRetentionPeriod or payloadRetentionHours";
            return Err(SvixError::body("payloadRetentionHours", message));
        }
        (Some(days), None) => ("payloadRetentionPeriod", days, 24),
        (None, Some(hours)) => ("payloadRetentionHours", hours, 1),
    };
    match Millis::try_from(amount) {
        Ok(amount @ 1..) if amount as u64 * unit <= MAX_RETENTION_DAYS * 24 => {
            Ok(Some(amount * unit as Millis * HOUR))
        }
        _ => {
            let message =
                format!("{field} is {amount}; it must be at least 1, and at most {MAX_RETENTION_DAYS} days");
            Err(SvixError::body(field, message))
        }
    }
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    target: AppTarget,
    sender: Principal,
    mut query: Query,
    request: Request,
) -> Result<(StatusCode, Json<MessageView>), SvixError> {
    let with_content = query.flag("with_content", true)?;
    query.finish()?;
    let headers = request.headers().clone();
    // Reserved until the message is stored: it is as large as its body.
    let mut reserved = api.memory.for_request(request.extensions());
    let new: MessageIn = read_json(request, &mut reserved).await?;
    let (event, application) = new.check(api.store.ids(), &headers)?;
    let app = find_or_create(&api, &sender, target, application).await?;
    let shown = if with_content { event.data.get().len() } else { 0 };
    let _answer = api.memory.for_answer(sender.tenant(), shown)?;
    let published = publish(&api, app, &event).await?;
    let row = stored(&api, app, event, published)?;
    Ok((StatusCode::ACCEPTED, Json(MessageView::new(api.store.ids(), row, with_content)?)))
}

/// Returns the row of a published event, or the reason why it was not stored. The row is not read from the store: a read
/// that fails would look as if nothing was stored.
pub(super) fn stored(
    api: &ApiState,
    app: TenantSeq,
    event: NewEvent,
    published: Published,
) -> Result<EventRow, SvixError> {
    let ids = api.store.ids();
    let (seq, created_at) = match published {
        Published::Accepted { event, created_at, .. } | Published::Replayed { event, created_at, .. } => {
            (event, created_at)
        }
        Published::Conflict { event } => {
            let id = ids.format(IdKind::Event, event);
            let detail =
                format!("this idempotency key was used for another message, {id}; nothing was stored");
            return Err(SvixError::conflict(detail));
        }
        Published::Duplicate { event } => {
            let id = ids.format(IdKind::Event, event);
            return Err(SvixError::conflict(format!(
                "the message {id} has this eventId already; nothing was stored"
            )));
        }
        Published::Refused(exceeded) => return Err(Problem::quota(&exceeded).into()),
    };
    Ok(EventRow {
        seq,
        tenant: app,
        uid: event.uid,
        event_type: event.event_type.as_str().to_owned(),
        data: event.data.get().as_bytes().to_owned(),
        channels: event.channels,
        tags: event.tags,
        created_at,
    })
}

/// Publishes an event. If it exceeds the tenant's rate, it waits for up to [`PATIENCE`].
async fn publish(api: &ApiState, app: TenantSeq, event: &NewEvent) -> Result<Published, SvixError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let published = api.store.publish(app, vec![event.clone()]).await?;
        let published = published.into_iter().next();
        let published = published.ok_or_else(|| SvixError::bug("the store returned no result"))?;
        if let Published::Refused(QuotaExceeded { quota, retry_after: Some(delay), .. }) = published
            && quota == Quota::EventsPerSecond
        {
            let at = Instant::now() + delay;
            if at <= deadline {
                sleep_until(at).await;
                continue;
            }
        }
        return Ok(published);
    }
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    message: AppMessage,
    mut query: Query,
) -> Result<Json<MessageView>, SvixError> {
    let with_content = query.with_content()?;
    query.finish()?;
    Ok(Json(MessageView::new(api.store.ids(), message.row, with_content)?))
}

/// Returns the conditions on messages.
pub(super) fn filter(query: &mut Query) -> Result<EventFilter, SvixError> {
    let types = query.list("event_types");
    let in_query = |problem: Problem| SvixError::query("event_types", problem.detail);
    Ok(EventFilter {
        types: types.map(|types| parse_patterns(&types)).transpose().map_err(in_query)?,
        channel: query.text("channel"),
        tag: query.text("tag"),
        since: query.time("after")?,
        until: query.time("before")?,
    })
}

/// Returns the page of a list that is read in one direction only, newest first.
fn newest_first(query: &mut Query, parse: impl Fn(&str) -> Option<i64>) -> Result<Walk, SvixError> {
    let walk = query.page(true, parse)?.walk;
    if walk.is_descending {
        return Ok(walk);
    }
    Err(SvixError::query("iterator", "this list has no previous pages; its prevIterator is null"))
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    mut query: Query,
) -> Result<Json<List<MessageView>>, SvixError> {
    let ids = api.store.ids();
    let with_content = query.with_content()?;
    let filter = filter(&mut query)?;
    let walk = newest_first(&mut query, |id| parse_message_id(&api, id))?;
    query.finish()?;
    let (ListPage { rows, stopped_at }, more) =
        api.store.events(Some(app), filter, walk.from, walk.limit).await?;
    let stopped_at = stopped_at.filter(|_| !more);
    let mut views = Vec::with_capacity(rows.len());
    let last = rows.last().map(|row| seq_of(row, |row: &EventRow| row.seq));
    for row in rows.into_iter().flatten() {
        let view = MessageView::new(ids, row, with_content)?;
        views.push((view.id.clone(), view));
    }
    let next = stopped_at.or_else(|| last.filter(|_| more)).map(|seq| ids.format(IdKind::Event, seq));
    Ok(Json(List::new(views, next.is_none()).one_way().continued_at(next)))
}

/// Returns the number of a row, whether it can be read or not.
pub(super) fn seq_of<T>(row: &Result<T, Unreadable>, seq: impl Fn(&T) -> i64) -> i64 {
    match row {
        Ok(row) => seq(row),
        Err(unreadable) => unreadable.seq,
    }
}

/// Returns the state of deliveries that a status selects; the inner `None` is a status that no delivery has.
fn state_of_status(query: &mut Query) -> Result<Option<Option<DeliveryState>>, SvixError> {
    match query.number("status")? {
        None => Ok(None),
        Some(0) => Ok(Some(Some(DeliveryState::Delivered))),
        Some(1) => Ok(Some(Some(DeliveryState::Pending))),
        Some(2) => Ok(Some(Some(DeliveryState::Dead))),
        Some(3) => Ok(Some(None)),
        Some(4) => Ok(Some(Some(DeliveryState::Skipped))),
        Some(other) => Err(SvixError::query("status", format!("{other} is not a status"))),
    }
}

/// Returns a page of deliveries, the list of which is continued by their ids.
async fn deliveries(
    api: &ApiState,
    filter: DeliveryFilter,
    walk: Walk,
) -> Result<(Vec<DeliveryRow>, Option<String>), SvixError> {
    let found = api.store.deliveries(filter, walk.from, walk.limit + 1).await?;
    let ListPage { mut rows, stopped_at } = found;
    let more = rows.len() > walk.limit;
    rows.truncate(walk.limit);
    let last = rows.last().map(|row| seq_of(row, |row: &DeliveryRow| row.seq));
    let next = stopped_at.filter(|_| !more).or_else(|| last.filter(|_| more));
    let next = next.map(|seq| api.store.ids().format(IdKind::Delivery, seq));
    Ok((rows.into_iter().flatten().collect(), next))
}

/// A page of messages ends after about this number of bytes of payloads.
const PAGE_BYTES: usize = 1 << 20;

/// The messages of an endpoint, with their status there.
pub(super) async fn list_of_endpoint(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    mut query: Query,
) -> Result<Json<List<WithStatus<MessageView>>>, SvixError> {
    let ids = api.store.ids();
    let with_content = query.with_content()?;
    let of_event = filter(&mut query)?;
    let state = state_of_status(&mut query)?;
    query.flag("expanded_statuses", false)?;
    let walk = newest_first(&mut query, |id| ids.parse(IdKind::Delivery, id))?;
    query.finish()?;
    if state == Some(None) {
        return Ok(Json(List::new(Vec::new(), true)));
    }
    let AppEndpoint { app, row } = endpoint;
    let filter = DeliveryFilter {
        tenant: Some(app),
        endpoint: Some(row.seq),
        state: state.flatten(),
        of_event,
        ..DeliveryFilter::default()
    };
    let (rows, mut next) = deliveries(&api, filter, walk).await?;
    let mut views = Vec::with_capacity(rows.len());
    let (mut bytes, mut last) = (0, None);
    for delivery in rows {
        if bytes > PAGE_BYTES {
            next = last;
            break;
        }
        last = Some(ids.format(IdKind::Delivery, delivery.seq));
        if let Some(event) = api.store.event(app, delivery.event).await? {
            bytes += if with_content { event.data.len() } else { 0 };
            let view = WithStatus::new(MessageView::new(ids, event, with_content)?, &delivery);
            views.push((ids.format(IdKind::Delivery, delivery.seq), view));
        }
    }
    Ok(Json(List::new(views, next.is_none()).one_way().continued_at(next)))
}

/// The endpoints of a message, with its status there. Deleted endpoints are not in the list.
pub(super) async fn destinations(
    State(api): State<Arc<ApiState>>,
    message: AppMessage,
    mut query: Query,
) -> Result<Json<List<WithStatus<EndpointView>>>, SvixError> {
    let ids = api.store.ids();
    let walk = newest_first(&mut query, |id| ids.parse(IdKind::Delivery, id))?;
    query.finish()?;
    let AppMessage { app, row } = message;
    let filter = DeliveryFilter { tenant: Some(app), event: Some(row.seq), ..DeliveryFilter::default() };
    let (rows, next) = deliveries(&api, filter, walk).await?;
    let mut views = Vec::with_capacity(rows.len());
    for delivery in rows {
        if let Some(endpoint) = api.store.endpoint(app, delivery.endpoint).await? {
            let view = WithStatus::new(EndpointView::new(ids, &endpoint), &delivery);
            views.push((ids.format(IdKind::Delivery, delivery.seq), view));
        }
    }
    Ok(Json(List::new(views, next.is_none()).one_way().continued_at(next)))
}

pub(super) async fn resend(
    State(api): State<Arc<ApiState>>,
    message: AppMessage,
    EndpointName(name): EndpointName,
    key: IdempotencyKey,
) -> Result<(StatusCode, Json<EmptyView>), SvixError> {
    let AppMessage { app, row } = message;
    let unknown = || SvixError::not_found("endpoint", &name);
    let endpoint = find_endpoint(&api, app, &name).await?.ok_or_else(unknown)?;
    let once = key.once(OnceKind::Resend, format_args!("{}/{}", row.seq, endpoint.seq));
    if !api.store.send_again(app, row.seq, endpoint.seq, once).await? {
        return Err(unknown());
    }
    Ok((StatusCode::ACCEPTED, Json(EmptyView {})))
}

/// Answers whether a message would be sent to any endpoint.
pub(super) async fn precheck(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    Body(precheck): Body<PrecheckIn>,
) -> Result<Json<PrecheckView>, SvixError> {
    let event_type = parse_type(&precheck.event_type)?;
    let channels = precheck.channels.unwrap_or_default();
    check_names("channels", &channels, MAX_CHANNELS).map_err(in_field("channels"))?;
    let takes = |row: &EndpointRow| {
        row.is_on()
            && row.patterns.iter().any(|pattern| pattern.matches(&event_type))
            && (row.channels.is_empty() || row.channels.iter().any(|channel| channels.contains(channel)))
    };
    let mut walk = Walk { from: None, is_descending: false, limit: PRECHECK_PAGE };
    loop {
        let rows = api.store.endpoints_of_page(app, walk).await?;
        let more = rows.len() > PRECHECK_PAGE;
        if rows.iter().any(takes) || !more {
            return Ok(Json(PrecheckView { active: rows.iter().any(takes) }));
        }
        walk.from = rows.last().map(|row| row.seq);
    }
}
