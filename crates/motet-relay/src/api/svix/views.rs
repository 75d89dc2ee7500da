//! The JSON forms of stored rows. The required members are those of the models of the Python client, which is the
//! strictest.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::error::SvixError;
use super::headers::is_sensitive;
use crate::api::ApiState;
use crate::clock::rfc3339;
use crate::ids::{IdKind, Ids};
use crate::pattern::Pattern;
use crate::store::{
    AttemptDetail, DeliveryRow, DeliveryState, EndpointRow, EventRow, EventTypeRow, Store, TenantRow,
    TenantSeq,
};

/// Clients of the versions 1.x require a version of each endpoint.
const ENDPOINT_VERSION: u32 = 1;

pub(super) fn id_of_app(store: &Store, tenant: TenantSeq) -> String {
    store.ids().format(IdKind::Tenant, tenant.number())
}

pub(super) fn application(store: &Store, row: &TenantRow) -> Value {
    let id = id_of_app(store, row.seq);
    let uid = Some(&row.id).filter(|uid| **uid != id);
    json!({
        "id": id,
        "uid": uid,
        "name": row.name,
        "metadata": row.metadata,
        "rateLimit": null,
        "throttleRate": null,
        "createdAt": rfc3339(row.created_at),
        "updatedAt": rfc3339(row.updated_at),
    })
}

pub(super) fn event_type(row: &EventTypeRow, with_content: bool) -> Value {
    json!({
        "name": row.name,
        "description": row.description,
        "schemas": row.schemas.as_ref().filter(|_| with_content),
        "groupName": row.group_name,
        "archived": row.is_archived,
        "deprecated": row.is_deprecated,
        "featureFlag": null,
        "featureFlags": null,
        "createdAt": rfc3339(row.created_at),
        "updatedAt": rfc3339(row.updated_at),
    })
}

pub(super) fn endpoint(ids: Ids, row: &EndpointRow) -> Value {
    let patterns: Vec<_> = row.patterns.iter().map(Pattern::as_str).collect();
    let types = Some(patterns).filter(|patterns| *patterns != [">"]);
    let channels = Some(&row.channels).filter(|channels| !channels.is_empty());
    json!({
        "id": ids.format(IdKind::Endpoint, row.seq),
        "uid": row.uid,
        "url": row.url,
        "description": row.description,
        "metadata": row.metadata,
        "filterTypes": types,
        "eventTypes": types,
        "channels": channels,
        "disabled": !row.enabled || row.held.is_some(),
        "rateLimit": row.policy.rate,
        "throttleRate": row.policy.rate,
        "version": ENDPOINT_VERSION,
        "createdAt": rfc3339(row.created_at),
        "updatedAt": rfc3339(row.updated_at),
    })
}

pub(super) fn headers(row: &EndpointRow) -> Value {
    let (sensitive, shown): (Vec<_>, Vec<_>) = row.headers.iter().partition(|(name, _)| is_sensitive(name));
    let shown: serde_json::Map<_, _> =
        shown.into_iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let sensitive: Vec<_> = sensitive.into_iter().map(|(name, _)| name).collect();
    json!({ "headers": shown, "sensitive": sensitive })
}

/// A message. The payload has the bytes that were sent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageView {
    pub(super) id: String,
    event_id: Option<String>,
    event_type: String,
    payload: Box<RawValue>,
    channels: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    timestamp: String,
}

impl MessageView {
    pub(super) fn new(ids: Ids, row: EventRow, with_content: bool) -> Result<Self, SvixError> {
        Ok(Self {
            id: ids.format(IdKind::Event, row.seq),
            event_id: row.uid,
            event_type: row.event_type,
            payload: if with_content { payload(&row.data)? } else { raw("{}")? },
            channels: Some(row.channels).filter(|channels| !channels.is_empty()),
            tags: Some(row.tags).filter(|tags| !tags.is_empty()),
            timestamp: rfc3339(row.created_at),
        })
    }
}

/// Returns the payload, which clients require to be an object. Another value, which only `/v1` accepts, is put into one.
fn payload(data: &[u8]) -> Result<Box<RawValue>, SvixError> {
    let text = std::str::from_utf8(data).map_err(|_| SvixError::bug("a stored event is not JSON"))?;
    if text.trim_start().starts_with('{') { raw(text) } else { raw(&format!("{{\"data\":{text}}}")) }
}

fn raw(text: &str) -> Result<Box<RawValue>, SvixError> {
    let value = RawValue::from_string(text.to_owned());
    value.map_err(|_| SvixError::bug("a stored event is not JSON"))
}

/// The status of a message at an endpoint, or of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    Pending,
    Fail,
    Canceled,
}

impl Status {
    pub(super) const fn of_delivery(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Delivered => Self::Success,
            DeliveryState::Pending => Self::Pending,
            DeliveryState::Dead => Self::Fail,
            DeliveryState::Skipped => Self::Canceled,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Pending => 1,
            Self::Fail => 2,
            Self::Canceled => 4,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Pending => "pending",
            Self::Fail => "fail",
            Self::Canceled => "canceled",
        }
    }
}

/// An object with the status of a delivery.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WithStatus<View> {
    #[serde(flatten)]
    view: View,
    status: u8,
    status_text: &'static str,
    next_attempt: Option<String>,
}

impl<View> WithStatus<View> {
    pub(super) fn new(view: View, delivery: &DeliveryRow) -> Self {
        let status = Status::of_delivery(delivery.state);
        let next_attempt = delivery.due_at.filter(|_| status == Status::Pending).map(rfc3339);
        Self { view, status: status.number(), status_text: status.text(), next_attempt }
    }
}

/// An attempt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttemptView {
    pub(super) id: String,
    url: String,
    response: String,
    /// 0 if there was no response.
    response_status_code: u16,
    response_duration_ms: i64,
    status: u8,
    status_text: &'static str,
    /// 0 scheduled, 1 requested by a client.
    trigger_type: u8,
    msg_id: String,
    endpoint_id: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<MessageView>,
}

impl AttemptView {
    pub(super) fn new(ids: Ids, detail: AttemptDetail, shows: AttemptParts) -> Result<Self, SvixError> {
        let AttemptDetail { row, event, of_event, endpoint, url } = detail;
        let attempt = row.attempt;
        let status = if attempt.error.is_none() { Status::Success } else { Status::Fail };
        // Without a response the error takes its place: there is no other field for it.
        let response = match attempt.status {
            Some(_) => attempt.response,
            None => attempt.error,
        };
        let msg = match of_event {
            Some(Ok(event)) if shows.message => Some(MessageView::new(ids, event, shows.content)?),
            _ => None,
        };
        Ok(Self {
            id: ids.format(IdKind::Attempt, row.seq),
            url,
            response: response.filter(|_| shows.content).unwrap_or_default(),
            response_status_code: attempt.status.unwrap_or(0),
            response_duration_ms: attempt.took_ms,
            status: status.number(),
            status_text: status.text(),
            trigger_type: u8::from(row.is_manual),
            msg_id: ids.format(IdKind::Event, event),
            endpoint_id: ids.format(IdKind::Endpoint, endpoint),
            timestamp: rfc3339(attempt.started_at),
            msg,
        })
    }
}

/// The parts of an attempt that are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptParts {
    pub(super) message: bool,
    pub(super) content: bool,
}

/// A list: the key `iterator` is required.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<View> {
    data: Vec<View>,
    iterator: Option<String>,
    prev_iterator: Option<String>,
    done: bool,
}

impl<View> List<View> {
    /// Creates a list of views, each with its id.
    pub(super) fn new(rows: Vec<(String, View)>, is_done: bool) -> Self {
        let iterator = rows.last().map(|(id, _)| id.clone());
        let prev_iterator = rows.first().map(|(id, _)| format!("-{id}"));
        let data = rows.into_iter().map(|(_, view)| view).collect();
        Self { data, iterator, prev_iterator, done: is_done }
    }

    /// Marks a list that cannot be read backwards.
    pub(super) fn one_way(mut self) -> Self {
        self.prev_iterator = None;
        self
    }

    /// Continues the list after this row instead, because rows that were looked at are not in it.
    pub(super) fn continued_at(mut self, id: Option<String>) -> Self {
        if let Some(id) = id {
            self.iterator = Some(id);
            self.done = false;
        }
        self
    }
}

/// Returns the application of a tenant as it is stored.
pub(super) async fn read_application(api: &ApiState, tenant: TenantSeq) -> Result<Option<Value>, SvixError> {
    Ok(api.store.tenant(tenant).await?.map(|row| application(&api.store, &row)))
}
