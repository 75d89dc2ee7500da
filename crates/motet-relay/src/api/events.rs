//! `/v1/events`

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Principal;
use super::body::{MAX_DATA_BYTES, MAX_JSON_BYTES, media_type, parse_json, read as read_body};
use super::extract::{Id, Params};
use super::filters::EventParams;
use super::names::{check_names, check_uid};
use super::paging::{ListResponse, PageRequest};
use super::problem::{self, Problem};
use super::tenant::{Tenant, id_of};
use super::views::{EventView, ListItem, Visible};
use crate::ids::{IdKind, Ids};
use crate::json;
use crate::pattern::EventType;
use crate::store::{ErasedUid, EventName, EventRow, MAX_WEIGHT, NewEvent, Published, TenantSeq, Unreadable};

pub(super) const NDJSON: &str = "application/x-ndjson";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub(super) const MAX_KEY_BYTES: usize = 255;
pub(super) const MAX_EVENT_CHANNELS: usize = 5;
pub(super) const MAX_TAGS: usize = 16;

/// Maximum size of a body with many events.
const MAX_NDJSON_BYTES: usize = 16 << 20;

/// Maximum number of lines. Each line gets a line in the response, so their number is limited as well.
const MAX_LINES: usize = 10_000;

/// Size of the response to a line, as a rule.
const LINE_BYTES: usize = 128;

/// An event to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishRequest {
    /// Segments of `[A-Za-z0-9_-]` that are separated by dots.
    #[schema(example = "invoice.paid")]
    r#type: String,
    /// Any JSON value of at most 262 144 bytes. Receivers get the same bytes.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// 1 to 255 bytes. A second event with the same key within 24 hours is not stored.
    #[schema(min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
    /// The caller's own id of the event, unique within its tenant.
    #[schema(min_length = 1, max_length = 256)]
    uid: Option<String>,
    /// Endpoints with channels get the event only if they share one with it.
    #[serde(default)]
    #[schema(max_items = 5)]
    channels: Vec<String>,
    /// Names by which lists can be filtered.
    #[serde(default)]
    #[schema(max_items = 16)]
    tags: Vec<String>,
}

/// An event that was accepted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PublishedEvent)]
pub(super) struct PublishResponse {
    id: String,
    /// Number of endpoints that the event goes to.
    deliveries: i64,
}

/// The response to one of many lines. `status` is the status that a request with this line alone would have.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PublishedLine)]
pub(super) struct LineAnswer {
    line: usize,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The quota that refuses the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// When a line that a quota refuses may be sent again, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EventListParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The id of a tenant, or `*` for all tenants. Without it, the tenant of the key.
    tenant: Option<String>,
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

/// Publishes one event as JSON, or many as NDJSON.
pub(super) async fn publish(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    match media_type(&head.headers).as_deref() {
        Some("application/json") => publish_one(&api, tenant.seq, &head, body).await,
        Some(NDJSON) => publish_many(&api, tenant.seq, &head, body).await,
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("send one event as 'Content-Type: application/json', or one event per line as {NDJSON}"),
        )),
    }
}

async fn publish_one(
    api: &ApiState,
    tenant: TenantSeq,
    head: &Parts,
    body: Body,
) -> Result<Response, Problem> {
    // Reserved until the event is stored: the event is as large as its body.
    let mut reserved = api.memory.for_request(&head.extensions);
    let mut publish: PublishRequest = parse_json(&read_body(body, MAX_JSON_BYTES, &mut reserved).await?)?;
    if let Some(header) = head.headers.get(IDEMPOTENCY_KEY) {
        let key = header.to_str().map_err(|_| Problem::invalid("idempotency-key must be visible ASCII"))?;
        if publish.idempotency_key.as_ref().is_some_and(|in_body| in_body != key) {
            return Err(Problem::invalid(
                "the idempotency keys in the header and in the body differ; send one",
            ));
        }
        publish.idempotency_key = Some(key.to_owned());
    }
    let published = api.store.publish(tenant, vec![check(publish, api.store.ids())?]).await?;
    let ids = api.store.ids();
    match published.first() {
        Some(Published::Accepted { event, deliveries, .. }) => {
            Ok(accepted(ids, *event, *deliveries).into_response())
        }
        Some(Published::Replayed { event, deliveries, .. }) => {
            let replayed = [(REPLAYED, HeaderValue::from_static("true"))];
            Ok((replayed, accepted(ids, *event, *deliveries)).into_response())
        }
        Some(Published::Conflict { event }) => Err(conflict(ids, *event)),
        Some(Published::Duplicate { event }) => Err(duplicate(ids, *event)),
        Some(Published::Refused(exceeded)) => Err(Problem::quota(exceeded)),
        None => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "a bug in relay: the store returned no result",
        )),
    }
}

fn accepted(ids: Ids, event: i64, deliveries: i64) -> (StatusCode, JsonResponse<PublishResponse>) {
    (StatusCode::ACCEPTED, JsonResponse(PublishResponse { id: ids.format(IdKind::Event, event), deliveries }))
}

fn conflict(ids: Ids, event: i64) -> Problem {
    let id = ids.format(IdKind::Event, event);
    Problem::new(
        StatusCode::CONFLICT,
        format!(
            "this idempotency key was used for another event, {id}, in the last 24 h; nothing was stored"
        ),
    )
}

fn duplicate(ids: Ids, event: i64) -> Problem {
    let id = ids.format(IdKind::Event, event);
    Problem::new(StatusCode::CONFLICT, format!("the event {id} has this uid already; nothing was stored"))
}

async fn publish_many(
    api: &ApiState,
    tenant: TenantSeq,
    head: &Parts,
    body: Body,
) -> Result<Response, Problem> {
    if head.headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(Problem::invalid(
            "a body of many events needs an \"idempotency_key\" in each line, not in the header",
        ));
    }
    let mut reserved = api.memory.for_request(&head.extensions);
    let body = read_body(body, MAX_NDJSON_BYTES, &mut reserved).await?;
    let lines: Vec<_> = (1..)
        .zip(body.split(|byte| *byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .take(MAX_LINES + 1)
        .collect();
    if lines.is_empty() {
        return Err(Problem::invalid("the body has no event"));
    }
    if lines.len() > MAX_LINES {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {MAX_LINES} events; nothing was stored"),
        ));
    }
    let sender = head.extensions.get().and_then(Principal::tenant);
    let _answer = api.memory.for_answer(sender, lines.len() * LINE_BYTES)?;
    let mut answers: Vec<LineAnswer> = Vec::with_capacity(lines.len());
    let mut batch = Vec::new();
    let mut numbers = Vec::new();
    // At most the weight of a commit, so that one large body does not make other callers wait.
    let mut weight = 0;
    for (number, line) in lines {
        match parse_line(line, api.store.ids()) {
            Ok(event) => {
                weight += api.store.rows_of(tenant, &event);
                batch.push(event);
                numbers.push(number);
            }
            Err(problem) => answers.push(refused(number, &problem)),
        }
        if weight >= MAX_WEIGHT {
            weight = 0;
            store_batch(api, tenant, std::mem::take(&mut batch), &mut numbers, &mut answers).await;
        }
    }
    store_batch(api, tenant, batch, &mut numbers, &mut answers).await;
    answers.sort_unstable_by_key(|answer| answer.line);
    ndjson(&answers)
}

fn parse_line(line: &[u8], ids: Ids) -> Result<NewEvent, Problem> {
    if line.len() > MAX_JSON_BYTES {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the line is longer than {MAX_JSON_BYTES} bytes"),
        ));
    }
    check(parse_json(line)?, ids)
}

async fn store_batch(
    api: &ApiState,
    tenant: TenantSeq,
    batch: Vec<NewEvent>,
    numbers: &mut Vec<usize>,
    answers: &mut Vec<LineAnswer>,
) {
    if batch.is_empty() {
        return;
    }
    let ids = api.store.ids();
    match api.store.publish(tenant, batch).await {
        Ok(published) => {
            answers.extend(
                numbers.drain(..).zip(published).map(|(line, published)| taken(ids, line, published)),
            );
        }
        Err(error) => {
            let problem = Problem::from(error);
            answers.extend(numbers.drain(..).map(|line| refused(line, &problem)));
        }
    }
}

fn taken(ids: Ids, line: usize, published: Published) -> LineAnswer {
    let (event, deliveries, replayed) = match published {
        Published::Accepted { event, deliveries, .. } => (event, deliveries, None),
        Published::Replayed { event, deliveries, .. } => (event, deliveries, Some(true)),
        Published::Conflict { event } => return refused(line, &conflict(ids, event)),
        Published::Duplicate { event } => return refused(line, &duplicate(ids, event)),
        Published::Refused(exceeded) => return refused(line, &Problem::quota(&exceeded)),
    };
    LineAnswer {
        line,
        status: StatusCode::ACCEPTED.as_u16(),
        id: Some(ids.format(IdKind::Event, event)),
        deliveries: Some(deliveries),
        replayed,
        detail: None,
        code: None,
        retry_after: None,
    }
}

fn refused(line: usize, problem: &Problem) -> LineAnswer {
    LineAnswer {
        line,
        status: problem.status.as_u16(),
        id: None,
        deliveries: None,
        replayed: None,
        detail: Some(problem.detail.clone()),
        code: problem.code,
        retry_after: problem.retry_after,
    }
}

/// Returns one line per event. The status of the response is the status of all lines if they are equal, and 207
/// otherwise.
fn ndjson(answers: &[LineAnswer]) -> Result<Response, Problem> {
    let first = answers.first().map_or(0, |answer| answer.status);
    let status = if answers.iter().all(|answer| answer.status == first) {
        StatusCode::from_u16(first).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        StatusCode::MULTI_STATUS
    };
    let mut body = Vec::new();
    for answer in answers {
        serde_json::to_writer(&mut body, answer).map_err(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug in relay: cannot write the response")
        })?;
        body.push(b'\n');
    }
    let mut response =
        (status, [(CONTENT_TYPE, HeaderValue::from_static(NDJSON))], Bytes::from(body)).into_response();
    problem::add_headers(status, response.headers_mut());
    let longest = answers.iter().filter_map(|answer| answer.retry_after).max();
    if let Some(seconds) = longest.filter(|_| status == StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

fn check(publish: PublishRequest, ids: Ids) -> Result<NewEvent, Problem> {
    let event_type = EventType::parse(&publish.r#type)
        .map_err(|error| Problem::invalid(format!("type: {:?} {error}", publish.r#type)))?;
    if let Some(key) = &publish.idempotency_key
        && (key.is_empty() || key.len() > MAX_KEY_BYTES)
    {
        return Err(Problem::invalid(format!(
            "idempotency_key has {} bytes; it must have 1 to {MAX_KEY_BYTES}",
            key.len()
        )));
    }
    let data = publish.data.get();
    if data.len() > MAX_DATA_BYTES {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("data has {} bytes; at most {MAX_DATA_BYTES} are allowed", data.len()),
        ));
    }
    json::check(data).map_err(|unfit| Problem::invalid(format!("data: {unfit}")))?;
    let PublishRequest { uid, channels, tags, .. } = publish;
    if let Some(uid) = &uid {
        check_uid(ids, uid)?;
    }
    check_names("channels", &channels, MAX_EVENT_CHANNELS)?;
    check_names("tags", &tags, MAX_TAGS)?;
    Ok(NewEvent {
        idempotency_key: publish.idempotency_key,
        uid,
        channels,
        tags,
        ..NewEvent::new(event_type, publish.data)
    })
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Id(id): Id,
) -> Result<JsonResponse<EventView>, Problem> {
    let unknown = || Problem::not_found("event", &id);
    let ids = api.store.ids();
    let seq = ids.parse(IdKind::Event, &id).ok_or_else(unknown)?;
    let row = api.store.event(tenant.seq, seq).await?.ok_or_else(unknown)?;
    let tenant = id_of(&api, row.tenant).ok_or_else(unknown)?;
    Ok(JsonResponse(EventView::new(ids, &tenant, row, Visible::from(&sender))?))
}

/// Erases the data of an event, and the responses to its attempts.
pub(super) async fn erase(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    let unknown = || Problem::not_found("event", &id);
    let seq = api.store.ids().parse(IdKind::Event, &id).ok_or_else(unknown)?;
    match api.store.erase_events(tenant.seq, vec![EventName::Seq(seq)], ErasedUid::Erased).await?.first() {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        _ => Err(unknown()),
    }
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Params(params): Params<EventListParams>,
) -> Result<JsonResponse<ListResponse<ListItem<EventView>>>, Problem> {
    let visible = Visible::from(&sender);
    let ids = api.store.ids();
    let page = PageRequest::read(ids, IdKind::Event, params.limit, params.cursor.as_deref())?;
    let tenant = tenant.of_list(&api, params.tenant.as_deref())?;
    let EventListParams { event_types, channel, tag, since, until, .. } = params;
    let filter = EventParams { event_types, channel, tag, since, until }.filter()?;
    let (found, more) = api.store.events(tenant, filter, page.before, page.limit).await?;
    let (rows, stopped_at) = (found.rows, found.stopped_at);
    let seq = |row: &Result<EventRow, Unreadable>| match row {
        Ok(row) => row.seq,
        Err(unreadable) => unreadable.seq,
    };
    let next_cursor = rows.last().filter(|_| more).map(|row| ids.format(IdKind::Event, seq(row)));
    let items = rows.into_iter().filter_map(|row| {
        let seq = seq(&row);
        // A row of a tenant that was deleted just now is left out.
        let view = match row {
            Ok(row) => Ok(EventView::new(ids, &id_of(&api, row.tenant)?, row, visible)),
            Err(unreadable) => Err(unreadable),
        };
        Some(ListItem::new(ids, IdKind::Event, view, seq))
    });
    let response = ListResponse::new(items, next_cursor);
    Ok(JsonResponse(match stopped_at {
        Some(seq) if !more => response.continued_at(ids.format(IdKind::Event, seq)),
        _ => response,
    }))
}
