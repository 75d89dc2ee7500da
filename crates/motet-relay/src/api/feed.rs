//! `/v1/events/feed`: new events as server-sent events.
//!
//! A message is an event in the form of `/v1/events/{id}`, with its id as the message's id. A client that reconnects
//! with the last id gets the events after it. A feed reads the next events after its client has taken the previous
//! ones, so a slow client holds at most one page, and a client that falls behind is served from the disk.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use motet::resilience::{Bulkhead, BulkheadPermit, PolicyConfigError};
use motet::stream::{StreamCombinators as _, Yielder, try_generator};
use motet::task::{CancelToken, Scope, timeout};
use serde::Deserialize;
use utoipa::IntoParams;

use super::ApiState;
use super::auth::Principal;
use super::extract::Params;
use super::filters::split_patterns;
use super::problem::Problem;
use super::shares::TenantBulkheads;
use super::tenant::{Tenant, id_of};
use super::views::{EventView, Visible};
use crate::clock::rfc3339;
use crate::config::Feeds;
use crate::ids::{IdKind, Ids};
use crate::store::{EventRow, EventSource, FeedEvent, FollowRefusal, Follower, StoreError, TenantSeq};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A header that forbids proxies to buffer the response.
const NO_BUFFERING: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// Small messages are sent together, up to this size.
const MAX_MERGED: usize = 16 << 10;

/// A slot for each open feed.
#[derive(Debug)]
pub(crate) struct FeedSlots {
    slots: Bulkhead,
    /// A key of one tenant may open a quarter of all feeds.
    of_tenants: TenantBulkheads,
    keep_alive: Duration,
}

/// The slot of an open feed.
#[derive(Debug)]
struct FeedSlot {
    _slot: BulkheadPermit<'static>,
    _of_tenant: Option<BulkheadPermit<'static>>,
}

impl FeedSlots {
    pub(crate) fn new(feeds: &Feeds, scope: &Scope) -> Result<Self, PolicyConfigError> {
        let slots = Bulkhead::builder(feeds.max_open.get()).name("feeds").build_in(scope)?;
        let of_tenants = TenantBulkheads::new((feeds.max_open.get() / 4).max(1));
        Ok(Self { slots, of_tenants, keep_alive: feeds.keep_alive })
    }

    /// Number of open feeds.
    pub(super) fn taken(&self) -> usize {
        self.slots.stats().in_flight
    }

    /// Returns a slot for a feed of this sender, whose key belongs to `tenant` if it belongs to one.
    fn try_acquire(&self, tenant: Option<TenantSeq>) -> Result<FeedSlot, Problem> {
        let of_tenant = tenant.map(|tenant| self.of_tenants.try_acquire(tenant)).transpose();
        let of_tenant = of_tenant.map_err(|_| {
            Problem::unavailable(
                "the keys of this tenant have opened a quarter of all feeds (--max-feeds), which is their limit; close \
                 one, or try again",
            )
        })?;
        let slot = self.slots.try_acquire().map_err(|_| {
            let limit = self.slots.stats().limit;
            Problem::unavailable(format!(
                "{limit} feeds are open, which is the limit (--max-feeds); close one, or try again"
            ))
        })?;
        Ok(FeedSlot { _slot: slot.into_owned(), _of_tenant: of_tenant })
    }
}

impl FromRef<FeedState> for Arc<ApiState> {
    fn from_ref(state: &FeedState) -> Self {
        Self::clone(&state.api)
    }
}

/// The state of the feed's handler.
#[derive(Debug, Clone)]
pub(super) struct FeedState {
    pub(super) api: Arc<ApiState>,
    /// Ends all feeds.
    pub(super) stop: CancelToken,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedParams {
    /// Patterns of event types, separated by commas; all event types if it is absent.
    event_types: Option<String>,
    /// The id of a tenant, or `*` for all tenants. Without it, the tenant of the key.
    tenant: Option<String>,
}

pub(super) async fn open(
    State(FeedState { api, stop }): State<FeedState>,
    sender: Principal,
    tenant: Tenant,
    Params(FeedParams { event_types, tenant: wanted }): Params<FeedParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let patterns = event_types.map(|types| split_patterns(&types));
    let patterns = patterns.transpose()?;
    let tenant = tenant.of_list(&api, wanted.as_deref())?;
    let ids = api.store.ids();
    let last = last_event_id(ids, &headers)?;
    let slot = api.feeds.try_acquire(sender.tenant())?;
    if stop.is_cancelled() {
        return Err(Problem::unavailable("relay is shutting down"));
    }
    let follower = api.store.follow(tenant, last, patterns).await?;
    let follower = follower.map_err(|refusal| gone(ids, &headers, refusal))?;
    let keep_alive = api.feeds.keep_alive;
    let visible = Visible::from(&sender);
    let feed = Feed { api, tenant, visible, follower, last_sent: None, keep_alive, _slot: slot };
    let messages = try_generator(async move |y: Yielder<Bytes>| feed.run(y).await);
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store"), NO_BUFFERING];
    Ok((headers, Body::from_stream(messages.until(stop).until(sender.ended()))).into_response())
}

/// Returns the event after which the feed continues. An empty id counts as none, as with an `EventSource`.
fn last_event_id(ids: Ids, headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let text = id.to_str().unwrap_or_default();
    let event = ids.parse(IdKind::Event, text);
    if ids.is_lost(IdKind::Event, text) {
        return Err(gone(ids, headers, FollowRefusal::Unknown));
    }
    event.map(Some).ok_or_else(|| {
        Problem::invalid(format!(
            "Last-Event-ID {id:?} is not the id of an event of this relay; leave the header out to get new events only"
        ))
    })
}

fn gone(ids: Ids, headers: &HeaderMap, refusal: FollowRefusal) -> Problem {
    let last = headers.get(LAST_EVENT_ID).map_or("", |id| id.to_str().unwrap_or_default());
    let (why, oldest) = match refusal {
        FollowRefusal::Unknown => (
            format!(
                "the event of the Last-Event-ID {last:?} is not stored, so what came after it may be missing too"
            ),
            None,
        ),
        FollowRefusal::Deleted { oldest } => (
            format!("events after the Last-Event-ID {last:?} were deleted by retention"),
            oldest.map(|oldest| ids.format(IdKind::Event, oldest)),
        ),
    };
    let stored =
        oldest.as_ref().map_or_else(String::new, |oldest| format!("; the oldest stored event is {oldest}"));
    let detail = format!(
        "{why}{stored}; leave the header out for the events to come, and look at /v1/events for those that are stored"
    );
    Problem { oldest_id: oldest, ..Problem::new(StatusCode::GONE, detail) }
}

struct Feed {
    api: Arc<ApiState>,
    /// `None`: all tenants.
    tenant: Option<TenantSeq>,
    visible: Visible,
    follower: Follower,
    /// The last id that was sent.
    last_sent: Option<i64>,
    keep_alive: Duration,
    _slot: FeedSlot,
}

impl Feed {
    /// Sends events until the client disconnects. An error ends the response early, and the client reconnects.
    async fn run(mut self, mut y: Yielder<Bytes>) -> Result<(), StoreError> {
        // A client that loses the connection before the first event reconnects with this id.
        y.emit(self.keep_alive()).await;
        loop {
            let next = timeout(self.keep_alive, self.follower.next()).await;
            if self.tenant.is_some_and(|tenant| id_of(&self.api, tenant).is_none()) {
                // The tenant was deleted.
                return Ok(());
            }
            let next = match next {
                Ok(next) => next.inspect_err(|error| tracing::error!(%error, "a feed ended early"))?,
                Err(_) => {
                    y.emit(self.keep_alive()).await;
                    continue;
                }
            };
            count(next.from, next.events.len());
            self.last_sent = next.events.last().map(|last| last.row.seq);
            let mut merged = BytesMut::new();
            for event in &next.events {
                // An event of a deleted tenant is left out.
                let Some(tenant) = id_of(&self.api, event.row.tenant) else { continue };
                let message = self.message(&tenant, event)?;
                if !merged.is_empty() && merged.len() + message.len() > MAX_MERGED {
                    y.emit(merged.split().freeze()).await;
                }
                if message.len() > MAX_MERGED {
                    y.emit(message).await;
                } else {
                    merged.extend_from_slice(&message);
                }
            }
            if !merged.is_empty() {
                y.emit(merged.freeze()).await;
            }
        }
    }

    fn message(&self, tenant: &str, event: &FeedEvent) -> Result<Bytes, StoreError> {
        let ids = self.api.store.ids();
        if event.unreadable.is_none() && (!self.visible.payload || event.row.is_erased()) {
            return message_without_data(ids, tenant, &event.row);
        }
        Ok(event.sent_as(|event| match &event.unreadable {
            None => message(ids, tenant, &event.row),
            Some(why) => error_message(ids, event.row.seq, why),
        }))
    }

    /// Returns a keep-alive message: the current id if it has changed since the last message, else a comment. Neither
    /// is an event for the client.
    fn keep_alive(&mut self) -> Bytes {
        let position = self.follower.position();
        if self.last_sent.replace(position) == Some(position) {
            return Bytes::from_static(b":\n\n");
        }
        Bytes::from(format!("id: {}\n\n", self.api.store.ids().format(IdKind::Event, position)))
    }
}

fn count(from: EventSource, events: usize) {
    let from = match from {
        EventSource::Memory => "memory",
        EventSource::Disk => "disk",
    };
    metrics::counter!("relay_feed_events_total", "from" => from).increment(events as u64);
}

/// Returns the message of an event for a client that may not see its data.
fn message_without_data(ids: Ids, tenant: &str, row: &EventRow) -> Result<Bytes, StoreError> {
    let id = ids.format(IdKind::Event, row.seq);
    let view = serde_json::to_string(&EventView::without_data(ids, tenant, row));
    let view = view.map_err(|error| StoreError::Internal(error.to_string()))?;
    Ok(Bytes::from(format!("id: {id}\ndata: {view}\n\n")))
}

/// Returns the message in place of an event that cannot be read.
fn error_message(ids: Ids, seq: i64, why: &str) -> Bytes {
    let id = ids.format(IdKind::Event, seq);
    Bytes::from(format!("id: {id}\ndata: {}\n\n", serde_json::json!({"id": id, "error": why})))
}

/// Returns the message of an event: the bytes of `/v1/events/{id}`, except for line breaks between the tokens of its
/// data.
fn message(ids: Ids, tenant: &str, row: &EventRow) -> Bytes {
    let id = ids.format(IdKind::Event, row.seq);
    let created_at = rfc3339(row.created_at);
    let mut names = String::new();
    if let Some(uid) = &row.uid {
        names = format!("\"uid\":\"{uid}\",");
    }
    for (field, list) in [("channels", &row.channels), ("tags", &row.tags)] {
        if !list.is_empty() {
            names += &format!("\"{field}\":[\"{}\"],", list.join("\",\""));
        }
    }
    let length = row.data.len()
        + row.event_type.len()
        + created_at.len()
        + names.len()
        + tenant.len()
        + 2 * id.len()
        + 80;
    let mut message = BytesMut::with_capacity(length);
    // None of these texts has a character that JSON escapes.
    for text in [
        "id: ",
        &id,
        "\ndata: {\"id\":\"",
        &id,
        "\",\"tenant\":\"",
        tenant,
        "\",\"type\":\"",
        &row.event_type,
        "\",\"created_at\":\"",
        &created_at,
        "\",",
        &names,
        "\"data\":",
    ] {
        message.put_slice(text.as_bytes());
    }
    // A JSON string has no raw line break, so these line breaks are white space. Each of them starts a new line of the
    // message.
    for (nth, line) in row.data.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
        if nth > 0 {
            message.put_slice(b"\ndata: ");
        }
        message.put_slice(line);
    }
    message.put_slice(b"}\n\n");
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_in_event_data_become_data_lines_of_one_message() {
        let data = b"{\r\n  \"a\": [1,\r2],\n\n\"b\":\"\\n\"}".to_vec();
        let row = EventRow {
            seq: 10,
            tenant: TenantSeq::DEFAULT,
            uid: None,
            event_type: "a.b".to_owned(),
            data,
            channels: Vec::new(),
            tags: Vec::new(),
            created_at: 7,
        };
        let text = message(Ids::new(1), "default", &row);
        let expected = "id: evt_000000000001000000000000000a\n\
            data: {\"id\":\"evt_000000000001000000000000000a\",\"tenant\":\"default\",\"type\":\"a.b\",\"created_at\":\"1970-01-01T00:00:00.007Z\",\"data\":{\n\
            data: \ndata:   \"a\": [1,\ndata: 2],\ndata: \ndata: \"b\":\"\\n\"}}\n\n";
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }
}
