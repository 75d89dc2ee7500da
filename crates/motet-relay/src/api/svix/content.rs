//! The contents of messages and attempts: their deletion, and messages with an example from the catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::error::SvixError;
use super::extract::{App, AppEndpoint, AppMessage, AttemptName, Body, IdempotencyKey, parse_message_id};
use super::messages::{parse_type, stored};
use super::replays::erasure_task;
use super::views::{ExpungedView, MessageView, TaskView};
use crate::api::ApiState;
use crate::api::body::MAX_DATA_BYTES;
use crate::ids::IdKind;
use crate::store::{ErasedUid, EventName, NewEvent};

/// Number of messages that one request erases: their rows are written in one commit.
const MAX_EXPUNGED: usize = 64;

/// The messages to erase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BulkExpungeIn {
    /// At most 64 ids or `eventId`s.
    #[serde(default)]
    #[schema(max_items = 64)]
    ids: Vec<String>,
}

/// The example to send.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EventExampleIn)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ExampleIn {
    event_type: String,
    /// An index of `examples` in the newest schema of the event type; 0 if it is absent.
    example_index: Option<usize>,
    /// An object in place of the example.
    payload: Option<Value>,
}

/// Erases the payload of a message, and the responses to its attempts.
pub(super) async fn expunge_message(
    State(api): State<Arc<ApiState>>,
    message: AppMessage,
) -> Result<StatusCode, SvixError> {
    // The message keeps its `eventId`, as with Svix.
    api.store.erase_events(message.app, vec![EventName::Seq(message.row.seq)], ErasedUid::Kept).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Erases the payloads of all messages, and the responses to their attempts.
pub(super) async fn expunge_all(
    State(api): State<Arc<ApiState>>,
    App(app): App,
) -> Result<(StatusCode, Json<TaskView>), SvixError> {
    let row = api.store.erase_payloads(app, ErasedUid::Kept).await?;
    Ok((StatusCode::ACCEPTED, Json(erasure_task(api.store.ids(), &row))))
}

/// Erases the response to an attempt.
pub(super) async fn expunge_attempt(
    State(api): State<Arc<ApiState>>,
    message: AppMessage,
    AttemptName(name): AttemptName,
) -> Result<StatusCode, SvixError> {
    let unknown = || SvixError::not_found("attempt", &name);
    let seq = api.store.ids().parse(IdKind::Attempt, &name).ok_or_else(unknown)?;
    if api.store.erase_attempt(message.app, message.row.seq, seq).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

/// Erases the payloads of messages that are named by ids or uids.
pub(super) async fn bulk_expunge(
    State(api): State<Arc<ApiState>>,
    App(app): App,
    Body(expunge): Body<BulkExpungeIn>,
) -> Result<Json<ExpungedView>, SvixError> {
    let BulkExpungeIn { ids } = expunge;
    if ids.len() > MAX_EXPUNGED {
        let message = format!("ids has {} entries; at most {MAX_EXPUNGED} are allowed", ids.len());
        return Err(SvixError::body("ids", message));
    }
    let name = |id: &String| match parse_message_id(&api, id) {
        Some(seq) => EventName::Seq(seq),
        None => EventName::Uid(id.clone()),
    };
    let found = api.store.erase_events(app, ids.iter().map(name).collect(), ErasedUid::Kept).await?;
    let status = |is_found| if is_found { "expunged" } else { "not-found" };
    let results: BTreeMap<_, _> = ids.into_iter().zip(found.into_iter().map(status)).collect();
    Ok(Json(ExpungedView { results }))
}

/// Sends the example of an event type to an endpoint, whatever the filter of the endpoint is.
pub(super) async fn send_example(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    key: IdempotencyKey,
    Body(example): Body<ExampleIn>,
) -> Result<(StatusCode, Json<MessageView>), SvixError> {
    let event_type = parse_type(&example.event_type)?;
    let payload = match example.payload {
        Some(payload) => payload,
        None => {
            let row = api.store.event_type(example.event_type.clone()).await?;
            let schemas = row.and_then(|row| row.schemas);
            schemas.as_ref().and_then(|schemas| find_example(schemas, example.example_index)).ok_or_else(
                || {
                    let event_type = &example.event_type;
                    let message = format!("the event type {event_type:?} has no such example in its schemas");
                    SvixError::body("eventType", message)
                },
            )?
        }
    };
    if !payload.is_object() {
        return Err(SvixError::body("payload", "the example is not an object"));
    }
    let text = payload.to_string();
    if text.len() > MAX_DATA_BYTES {
        let message = format!("the example has {} bytes; at most {MAX_DATA_BYTES} are allowed", text.len());
        return Err(SvixError::body("payload", message));
    }
    let data = RawValue::from_string(text).map_err(|_| SvixError::bug("an example is not JSON"))?;
    let AppEndpoint { app, row } = endpoint;
    let event = NewEvent { idempotency_key: key.into_text(), ..NewEvent::new(event_type, data) };
    let published = api.store.publish_to(app, row.seq, event.clone()).await?;
    let row = stored(&api, app, event, published)?;
    Ok((StatusCode::ACCEPTED, Json(MessageView::new(api.store.ids(), row, true)?)))
}

/// Returns an example of the newest schema: an element of `examples`, or `example`.
fn find_example(schemas: &Value, index: Option<usize>) -> Option<Value> {
    let schemas = schemas.as_object()?;
    let version = |name: &&String| name.parse::<u64>().unwrap_or(0);
    let newest = schemas.keys().max_by_key(version).and_then(|name| schemas.get(name))?;
    match newest.get("examples").and_then(Value::as_array) {
        Some(examples) => examples.get(index.unwrap_or(0)).cloned(),
        None => newest.get("example").cloned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn example_is_that_of_the_newest_schema() {
        let schemas = json!({
            "1": {"examples": [{"old": 1}]},
            "2": {"examples": [{"n": 0}, {"n": 1}]},
            "10": {"type": "object", "examples": [{"n": 10}, {"n": 11}]},
        });
        assert_eq!(find_example(&schemas, None), Some(json!({"n": 10})));
        assert_eq!(find_example(&schemas, Some(1)), Some(json!({"n": 11})));
        assert_eq!(find_example(&schemas, Some(2)), None);
        assert_eq!(find_example(&json!({"1": {"example": {"n": 1}}}), None), Some(json!({"n": 1})));
        assert_eq!(find_example(&json!({"1": {"type": "object"}}), None), None);
        assert_eq!(find_example(&json!({}), None), None);
    }
}
