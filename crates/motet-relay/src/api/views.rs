//! The JSON forms of stored rows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::auth::Principal;
use super::problem::Problem;
use super::replays::MissedView;
use crate::access::KeyScope;
use crate::clock::rfc3339;
use crate::ids::{IdKind, Ids};
use crate::masked::Masked;
use crate::store::{
    AttemptRow, DeliveryRow, DeliveryState, EndpointKind, EndpointPolicy, EndpointRow, EventRow,
    FailureClass, HoldReason, Unreadable,
};

/// The parts of rows that the sender of a request may see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visible {
    /// The data of events, and the responses of receivers.
    pub(super) payload: bool,
    /// The signing secrets of endpoints.
    pub(super) secret: bool,
}

impl From<&Principal> for Visible {
    fn from(sender: &Principal) -> Self {
        Self { payload: sender.allows(KeyScope::ReadPayload), secret: sender.allows(KeyScope::Secrets) }
    }
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(super) struct EndpointView {
    id: String,
    /// The id of its tenant.
    tenant: String,
    uid: Option<String>,
    kind: EndpointKind,
    url: String,
    description: String,
    metadata: BTreeMap<String, String>,
    /// The names of the headers; their values are not shown.
    headers: Vec<String>,
    event_types: Vec<String>,
    channels: Vec<String>,
    policy: EndpointPolicy,
    /// `false` if the owner or relay has disabled the endpoint.
    enabled: bool,
    /// `true` if deliveries wait until the endpoint is resumed.
    paused: bool,
    /// The reason why relay has disabled the endpoint: `gone` (it responded with 410) or `failing` (every attempt
    /// failed).
    disabled_because: Option<HoldReason>,
    /// Only in the responses for a single endpoint, not in lists, and only for senders with the scope `secrets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    secret: Option<Masked<String>>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// The events that the endpoint has missed: in the response that creates it or enables it again, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<MissedView>,
}

impl EndpointView {
    pub(super) fn new(ids: Ids, tenant: &str, row: &EndpointRow) -> Self {
        Self {
            id: ids.format(IdKind::Endpoint, row.seq),
            tenant: tenant.to_owned(),
            uid: row.uid.clone(),
            kind: row.kind,
            url: row.url.clone(),
            description: row.description.clone(),
            metadata: row.metadata.clone(),
            headers: row.headers.keys().cloned().collect(),
            event_types: row.patterns.iter().map(ToString::to_string).collect(),
            channels: row.channels.clone(),
            policy: row.policy.clone(),
            enabled: row.enabled && row.held.is_none(),
            paused: row.paused,
            disabled_because: row.held,
            secret: None,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
            missed: None,
        }
    }

    /// Adds the events that the endpoint has missed.
    pub(super) fn with_missed(self, missed: Option<MissedView>) -> Self {
        Self { missed, ..self }
    }

    /// The view in the response for a single endpoint.
    pub(super) fn alone(ids: Ids, tenant: &str, row: &EndpointRow, visible: Visible) -> Self {
        let secret = row.secret.as_ref().filter(|_| visible.secret).map(|secret| Masked(secret.expose()));
        Self { secret, ..Self::new(ids, tenant, row) }
    }
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventView {
    id: String,
    tenant: String,
    r#type: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// Only for senders with the scope `read_payload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    data: Option<Box<RawValue>>,
    /// `true` if the data was erased.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
}

impl EventView {
    pub(super) fn new(ids: Ids, tenant: &str, row: EventRow, visible: Visible) -> Result<Self, Problem> {
        let view = Self::without_data(ids, tenant, &row);
        if !visible.payload || row.is_erased() {
            return Ok(view);
        }
        let stored = String::from_utf8(row.data).ok().and_then(|text| RawValue::from_string(text).ok());
        let Some(data) = stored else {
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the stored event is not JSON"));
        };
        Ok(Self { data: Some(data), ..view })
    }

    /// The view for senders that may not see the data.
    pub(super) fn without_data(ids: Ids, tenant: &str, row: &EventRow) -> Self {
        Self {
            id: ids.format(IdKind::Event, row.seq),
            tenant: tenant.to_owned(),
            r#type: row.event_type.clone(),
            created_at: rfc3339(row.created_at),
            uid: row.uid.clone(),
            channels: row.channels.clone(),
            tags: row.tags.clone(),
            data: None,
            erased: row.is_erased(),
        }
    }
}

/// An item of a list: the row, or the reason why the row cannot be read.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ListItem<View> {
    Readable(View),
    Unreadable(UnreadableView),
}

/// A row that cannot be read, because the store is damaged.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unreadable)]
pub(super) struct UnreadableView {
    id: String,
    /// The reason.
    error: String,
}

impl<View: ToSchema> utoipa::PartialSchema for ListItem<View> {
    fn schema() -> RefOr<Schema> {
        let reference = utoipa::openapi::Ref::from_schema_name;
        let items = utoipa::openapi::OneOfBuilder::new()
            .item(reference(View::name()))
            .item(reference(UnreadableView::name()));
        items.into()
    }
}

impl<View: ToSchema> ToSchema for ListItem<View> {
    fn name() -> Cow<'static, str> {
        format!("{}Item", View::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((View::name().into_owned(), View::schema()));
        schemas
            .push((UnreadableView::name().into_owned(), <UnreadableView as utoipa::PartialSchema>::schema()));
        View::schemas(schemas);
    }
}

impl<View> ListItem<View> {
    pub(super) fn new(
        ids: Ids,
        kind: IdKind,
        row: Result<Result<View, Problem>, Unreadable>,
        seq: i64,
    ) -> Self {
        let error = match row {
            Ok(Ok(view)) => return Self::Readable(view),
            Ok(Err(problem)) => problem.detail,
            Err(unreadable) => unreadable.why,
        };
        Self::Unreadable(UnreadableView { id: ids.format(kind, seq), error })
    }
}

/// A delivery: an event for one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryView {
    pub(super) id: String,
    tenant: String,
    pub(super) event_id: String,
    /// `null` if the event cannot be read.
    pub(super) event_type: Option<String>,
    /// The reason why the event cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    pub(super) endpoint_id: String,
    pub(super) state: DeliveryState,
    pub(super) attempts: u32,
    /// When the next attempt is due; only for pending deliveries.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    #[schema(format = DateTime)]
    pub(super) updated_at: String,
    /// Why it is dead or skipped.
    reason: Option<String>,
}

impl DeliveryView {
    pub(super) fn new(ids: Ids, tenant: &str, row: DeliveryRow) -> Self {
        let (event_type, error) = match row.event_type {
            Ok(event_type) => (Some(event_type), None),
            Err(why) => (None, Some(why)),
        };
        Self {
            id: ids.format(IdKind::Delivery, row.seq),
            tenant: tenant.to_owned(),
            event_id: ids.format(IdKind::Event, row.event),
            event_type,
            error,
            endpoint_id: ids.format(IdKind::Endpoint, row.endpoint),
            state: row.state,
            attempts: row.attempts,
            next_attempt_at: row.due_at.filter(|_| row.state == DeliveryState::Pending).map(rfc3339),
            updated_at: rfc3339(row.updated_at),
            reason: row.reason,
        }
    }
}

/// A request for a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(super) struct AttemptView {
    id: String,
    number: u32,
    /// `true` if a client asked for the attempt: the first after a resend.
    manual: bool,
    #[schema(format = DateTime)]
    started_at: String,
    took_ms: i64,
    status: Option<u16>,
    /// The cause that a failure is charged to: `receiver`, `relay` or `config`.
    class: Option<FailureClass>,
    error: Option<String>,
    /// Only for senders with the scope `read_payload`; then `null` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    response: Option<Option<String>>,
    /// Number of attempts in a row that this entry stands for; it shows the last of them. Greater than 1 only for
    /// attempts that are charged to `relay`.
    repeats: u32,
}

impl AttemptView {
    pub(super) fn new(ids: Ids, row: AttemptRow, visible: Visible) -> Self {
        let AttemptRow { seq, number, is_manual, attempt, repeats } = row;
        Self {
            id: ids.format(IdKind::Attempt, seq),
            number,
            manual: is_manual,
            started_at: rfc3339(attempt.started_at),
            took_ms: attempt.took_ms,
            status: attempt.status,
            class: attempt.class,
            error: attempt.error,
            response: visible.payload.then_some(attempt.response),
            repeats,
        }
    }
}

/// A delivery with its attempts, the latest ones first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryWithAttempts)]
pub(super) struct DeliveryDetail {
    #[serde(flatten)]
    pub(super) delivery: DeliveryView,
    pub(super) attempt_log: Vec<AttemptView>,
}
