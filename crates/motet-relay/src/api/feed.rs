//! `/v1/events/feed`: events as they come, as server-sent events.
//!
//! A message is an event, as `/v1/events/{id}` shows it, under its id; whoever comes back with the last id gets what came
//! after it. A feed reads what is next when its reader has taken what was before, so that a slow one holds a page and no
//! more, and one that falls behind reads from the disk.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use motet::resilience::{Bulkhead, BulkheadPermit, InvalidPolicy};
use motet::stream::{Combinators as _, Yielder, try_generator};
use motet::task::{CancelToken, Scope, timeout};
use serde::Deserialize;

use super::ApiState;
use super::endpoints::parse_patterns;
use super::extract::Params;
use super::problem::Problem;
use crate::clock::rfc3339;
use crate::config::Feeds;
use crate::ids::{IdKind, Ids};
use crate::store::{EventRow, EventSource, Follower, StoreError};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Proxies that gather an answer before they pass it on are asked not to.
const NO_BUFFERING: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// Small messages are sent together, up to this.
const MAX_MERGED: usize = 16 << 10;

/// A place for each feed that may be open.
#[derive(Debug)]
pub(crate) struct FeedSlots {
    slots: Bulkhead,
    keep_alive: Duration,
}

impl FeedSlots {
    pub(crate) fn new(feeds: &Feeds, scope: &Scope) -> Result<Self, InvalidPolicy> {
        let slots = Bulkhead::builder(feeds.max_open.get()).named(scope, "feeds").build()?;
        Ok(Self { slots, keep_alive: feeds.keep_alive })
    }

    /// How many feeds are open.
    pub(super) fn taken(&self) -> usize {
        self.slots.stats().taken
    }

    fn try_acquire(&self) -> Result<BulkheadPermit<'static>, Problem> {
        self.slots.try_acquire().map(BulkheadPermit::into_owned).map_err(|_| {
            let most = self.slots.stats().places;
            Problem::unavailable(format!("{most} feeds are open, and there may be no more (--max-feeds)"))
        })
    }
}

/// What a feed works with.
#[derive(Debug, Clone)]
pub(super) struct FeedState {
    pub(super) api: Arc<ApiState>,
    /// The end of all feeds.
    pub(super) stop: CancelToken,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedParams {
    /// Patterns with commas between them; all event types when left out.
    event_types: Option<String>,
}

pub(super) async fn open(
    State(FeedState { api, stop }): State<FeedState>,
    Params(FeedParams { event_types }): Params<FeedParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let patterns = event_types.map(|types| {
        let types: Vec<_> = types.split(',').map(|pattern| pattern.trim().to_owned()).collect();
        parse_patterns(&types)
    });
    let patterns = patterns.transpose()?;
    let ids = api.store.ids();
    let last = last_event_id(ids, &headers)?;
    let slot = api.feeds.try_acquire()?;
    if stop.is_cancelled() {
        return Err(Problem::unavailable("relay is shutting down"));
    }
    let follower = api.store.follow(last, patterns).await?.ok_or_else(|| gone(&headers))?;
    let feed = Feed { ids, follower, last_sent: None, keep_alive: api.feeds.keep_alive, _slot: slot };
    let messages = try_generator(async move |y: Yielder<Bytes>| feed.run(y).await);
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store"), NO_BUFFERING];
    Ok((headers, Body::from_stream(messages.until(stop))).into_response())
}

/// The event to go on after, if there is one. An empty id is none, as with an `EventSource`.
fn last_event_id(ids: Ids, headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let event = id.to_str().ok().and_then(|id| ids.parse(IdKind::Event, id));
    event.map(Some).ok_or_else(|| {
        Problem::invalid(format!(
            "Last-Event-ID {id:?} is not the id of an event of this relay; leave it out for the events to come"
        ))
    })
}

fn gone(headers: &HeaderMap) -> Problem {
    Problem::new(
        StatusCode::GONE,
        format!(
            "the event of the Last-Event-ID {:?} is not stored, so what came after it may be missing too; leave the \
             header out for the events to come, and look at /v1/events for those that are stored",
            headers.get(LAST_EVENT_ID).map_or("", |id| id.to_str().unwrap_or_default())
        ),
    )
}

struct Feed {
    ids: Ids,
    follower: Follower,
    /// The last id that was sent.
    last_sent: Option<i64>,
    keep_alive: Duration,
    _slot: BulkheadPermit<'static>,
}

impl Feed {
    /// Goes on for as long as somebody reads. An error breaks the answer off, which tells the reader to come again.
    async fn run(mut self, mut y: Yielder<Bytes>) -> Result<(), StoreError> {
        // Whoever loses the connection before the first event goes on from here.
        y.emit(self.keep_alive()).await;
        loop {
            let next = match timeout(self.keep_alive, self.follower.next()).await {
                Ok(next) => next.inspect_err(|error| tracing::error!(%error, "a feed ends early"))?,
                Err(_) => {
                    y.emit(self.keep_alive()).await;
                    continue;
                }
            };
            count(next.from, next.events.len());
            self.last_sent = next.events.last().map(|last| last.row.seq);
            let mut merged = BytesMut::new();
            for event in &next.events {
                let message = event.sent_as(|event| match &event.unreadable {
                    None => message(self.ids, &event.row),
                    Some(why) => error_message(self.ids, event.row.seq, why),
                });
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

    /// A sign of life: the id to come back with, if it is another one; a comment otherwise. Neither is an event.
    fn keep_alive(&mut self) -> Bytes {
        let position = self.follower.position();
        if self.last_sent.replace(position) == Some(position) {
            return Bytes::from_static(b":\n\n");
        }
        Bytes::from(format!("id: {}\n\n", self.ids.format(IdKind::Event, position)))
    }
}

fn count(from: EventSource, events: usize) {
    let from = match from {
        EventSource::Memory => "memory",
        EventSource::Disk => "disk",
    };
    metrics::counter!("relay_feed_events_total", "from" => from).increment(events as u64);
}

/// In place of an event that cannot be read.
fn error_message(ids: Ids, seq: i64, why: &str) -> Bytes {
    let id = ids.format(IdKind::Event, seq);
    Bytes::from(format!("id: {id}\ndata: {}\n\n", serde_json::json!({"id": id, "error": why})))
}

/// The same bytes as `/v1/events/{id}` has, but for line breaks between the tokens of its data.
fn message(ids: Ids, row: &EventRow) -> Bytes {
    let id = ids.format(IdKind::Event, row.seq);
    let created_at = rfc3339(row.created_at);
    let length = row.data.len() + row.event_type.len() + created_at.len() + 2 * id.len() + 64;
    let mut message = BytesMut::with_capacity(length);
    // None of these holds a character that JSON escapes.
    for text in [
        "id: ",
        &id,
        "\ndata: {\"id\":\"",
        &id,
        "\",\"type\":\"",
        &row.event_type,
        "\",\"created_at\":\"",
        &created_at,
        "\",\"data\":",
    ] {
        message.put_slice(text.as_bytes());
    }
    // A string of JSON holds no line break as it is, so these are white space; and there each ends a line of the message.
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
    fn line_breaks_in_data_stay_within_the_message() {
        let data = b"{\r\n  \"a\": [1,\r2],\n\n\"b\":\"\\n\"}".to_vec();
        let row = EventRow { seq: 10, event_type: "a.b".to_owned(), data, created_at: 7 };
        let text = message(Ids::new(1), &row);
        let expected = "id: evt_000000000001000000000000000a\n\
            data: {\"id\":\"evt_000000000001000000000000000a\",\"type\":\"a.b\",\"created_at\":\"1970-01-01T00:00:00.007Z\",\"data\":{\n\
            data: \ndata:   \"a\": [1,\ndata: 2],\ndata: \ndata: \"b\":\"\\n\"}}\n\n";
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }
}
