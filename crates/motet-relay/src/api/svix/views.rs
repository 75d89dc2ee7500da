//! The JSON forms of stored rows. The required members are those of the models of the Python client, which is the
//! strictest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{
    AllOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::error::SvixError;
use super::headers::is_sensitive;
use crate::api::ApiState;
use crate::clock::rfc3339;
use crate::ids::{IdKind, Ids};
use crate::masked::Masked;
use crate::signature::Secret;
use crate::store::{
    AttemptDetail, DeliveryRow, DeliveryState, EndpointRow, EventRow, EventTypeRow, Store, TenantRow,
    TenantSeq,
};

/// The payload of an erased message, as Svix's own server shows it.
const EXPIRED: &str = r#"{"expired":true}"#;

/// Clients of the versions 1.x require a version of each endpoint.
const ENDPOINT_VERSION: u32 = 1;

pub(super) fn id_of_app(store: &Store, tenant: TenantSeq) -> String {
    store.ids().format(IdKind::Tenant, tenant.number())
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApplicationOut)]
pub(super) struct ApplicationView {
    id: String,
    uid: Option<String>,
    name: String,
    metadata: BTreeMap<String, String>,
    /// Always `null`: endpoints have rates, applications do not.
    rate_limit: Option<u32>,
    /// Equal to `rateLimit`.
    throttle_rate: Option<u32>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl ApplicationView {
    pub(super) fn new(store: &Store, row: TenantRow) -> Self {
        let id = id_of_app(store, row.seq);
        let uid = Some(row.id).filter(|uid| *uid != id);
        Self {
            id,
            uid,
            name: row.name,
            metadata: row.metadata,
            rate_limit: None,
            throttle_rate: None,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// An event type of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventTypeOut)]
pub(super) struct EventTypeView {
    name: String,
    description: String,
    schemas: Option<Value>,
    group_name: Option<String>,
    archived: bool,
    deprecated: bool,
    /// Always `null`: relay has no feature flags.
    feature_flag: Option<String>,
    /// Always `null`.
    feature_flags: Option<Vec<String>>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl EventTypeView {
    pub(super) fn new(row: EventTypeRow, with_content: bool) -> Self {
        Self {
            name: row.name,
            description: row.description,
            schemas: row.schemas.filter(|_| with_content),
            group_name: row.group_name,
            archived: row.is_archived,
            deprecated: row.is_deprecated,
            feature_flag: None,
            feature_flags: None,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EndpointOut)]
pub(super) struct EndpointView {
    id: String,
    uid: Option<String>,
    url: String,
    description: String,
    metadata: BTreeMap<String, String>,
    /// `null`: all event types.
    filter_types: Option<Vec<String>>,
    /// Equal to `filterTypes`.
    event_types: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    disabled: bool,
    /// The maximum number of attempts per second.
    rate_limit: Option<u32>,
    /// Equal to `rateLimit`.
    throttle_rate: Option<u32>,
    /// Always 1.
    version: u32,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl EndpointView {
    pub(super) fn new(ids: Ids, row: &EndpointRow) -> Self {
        let patterns: Vec<_> = row.patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        let types = Some(patterns).filter(|patterns| *patterns != [">"]);
        let rate = row.policy.rate.map(NonZeroU32::get);
        Self {
            id: ids.format(IdKind::Endpoint, row.seq),
            uid: row.uid.clone(),
            url: row.url.clone(),
            description: row.description.clone(),
            metadata: row.metadata.clone(),
            filter_types: types.clone(),
            event_types: types,
            channels: Some(row.channels.clone()).filter(|channels| !channels.is_empty()),
            disabled: !row.enabled || row.held.is_some(),
            rate_limit: rate,
            throttle_rate: rate,
            version: ENDPOINT_VERSION,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// The headers that are sent with each delivery of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointHeadersOut)]
pub(super) struct HeadersView {
    #[schema(value_type = BTreeMap<String, String>)]
    headers: Masked<BTreeMap<String, String>>,
    /// The names of the headers whose values are not shown.
    sensitive: Vec<String>,
}

impl HeadersView {
    /// The values are secrets for the receiver: a sender that may see no secrets gets the names.
    pub(super) fn new(row: &EndpointRow, may_see: bool) -> Self {
        let is_hidden = |(name, _): &(String, String)| !may_see || is_sensitive(name);
        let (sensitive, headers): (BTreeMap<_, _>, BTreeMap<_, _>) =
            row.headers.0.clone().into_iter().partition(is_hidden);
        Self { headers: Masked(headers), sensitive: sensitive.into_keys().collect() }
    }
}

/// The signing secret of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointSecretOut)]
pub(super) struct SecretView {
    #[schema(value_type = String)]
    key: Masked<String>,
}

impl SecretView {
    pub(super) fn new(secret: &Secret) -> Self {
        Self { key: Masked(secret.expose()) }
    }
}

/// The number of messages of an endpoint by their status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointStats)]
pub(super) struct StatsView {
    pub(super) success: u64,
    pub(super) pending: u64,
    pub(super) sending: u64,
    pub(super) fail: u64,
    pub(super) canceled: u64,
}

/// The number of attempts at an endpoint by their outcome.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttemptStats)]
pub(super) struct AttemptStatsView {
    pub(super) success: u64,
    pub(super) fail: u64,
    pub(super) canceled: u64,
}

/// A session of the portal.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PortalAccessOut)]
pub(super) struct PortalView {
    /// With the token.
    #[schema(value_type = String)]
    pub(super) url: Masked<String>,
    #[schema(value_type = String)]
    pub(super) token: Masked<String>,
}

/// Whether a message would be sent to any endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PrecheckOut)]
pub(super) struct PrecheckView {
    pub(super) active: bool,
}

/// Which messages were erased.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BulkExpungeOut)]
pub(super) struct ExpungedView {
    /// `expunged` or `not-found`, by the id of each message.
    pub(super) results: BTreeMap<String, &'static str>,
}

/// An object without members.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EmptyOut)]
pub(super) struct EmptyView {}

/// A background task: a replay.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BackgroundTask)]
pub(super) struct TaskView {
    pub(super) id: String,
    /// `running`, `finished` or `failed`.
    pub(super) status: &'static str,
    /// `endpoint.recover`, `endpoint.replay`, `endpoint.bulk-replay` or `application.purge_content`.
    pub(super) task: &'static str,
    #[schema(format = DateTime)]
    pub(super) updated_at: String,
}

/// A background task with its progress.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackgroundTaskOut)]
pub(super) struct TaskWithData {
    #[serde(flatten)]
    pub(super) task: TaskView,
    pub(super) data: TaskData,
}

/// The progress of a task.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BackgroundTaskData)]
pub(super) struct TaskData {
    pub(super) app_id: String,
    pub(super) endpoint_id: Option<String>,
    /// The number of messages that were found when the task began.
    pub(super) messages_planned: u64,
    pub(super) messages_sent: u64,
    /// The number of messages whose content was erased, for a task that erases them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) messages_erased: Option<u64>,
    pub(super) error: Option<String>,
}

/// A message. The payload has the bytes that were sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageOut)]
pub(super) struct MessageView {
    pub(super) id: String,
    event_id: Option<String>,
    event_type: String,
    /// Without members if the content is not shown.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    channels: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    #[schema(format = DateTime)]
    timestamp: String,
}

impl MessageView {
    pub(super) fn new(ids: Ids, row: EventRow, with_content: bool) -> Result<Self, SvixError> {
        let payload = match (with_content, row.is_erased()) {
            (false, _) => raw("{}")?,
            (true, true) => raw(EXPIRED)?,
            (true, false) => payload(&row.data)?,
        };
        Ok(Self {
            id: ids.format(IdKind::Event, row.seq),
            event_id: row.uid,
            event_type: row.event_type,
            payload,
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

impl<View: ToSchema> PartialSchema for WithStatus<View> {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        let status = ObjectBuilder::new()
            .property("status", number.description(Some("0 success, 1 pending, 2 fail, 4 canceled.")))
            .property("statusText", text())
            .property(
                "nextAttempt",
                text()
                    .schema_type([Type::String, Type::Null].into_iter().collect::<SchemaType>())
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                    .description(Some("When the next attempt is due, if the message is pending.")),
            )
            .required("status")
            .required("statusText")
            .required("nextAttempt");
        AllOfBuilder::new().item(Ref::from_schema_name(View::name())).item(status).into()
    }
}

impl<View: ToSchema> ToSchema for WithStatus<View> {
    fn name() -> Cow<'static, str> {
        format!("{}WithStatus", View::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((View::name().into_owned(), View::schema()));
        View::schemas(schemas);
    }
}

impl<View> WithStatus<View> {
    pub(super) fn new(view: View, delivery: &DeliveryRow) -> Self {
        let status = Status::of_delivery(delivery.state);
        let next_attempt = delivery.due_at.filter(|_| status == Status::Pending).map(rfc3339);
        Self { view, status: status.number(), status_text: status.text(), next_attempt }
    }
}

/// An attempt.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageAttemptOut)]
pub(super) struct AttemptView {
    pub(super) id: String,
    url: String,
    /// The beginning of the response, or the error if there was none.
    response: String,
    /// 0 if there was no response.
    response_status_code: u16,
    response_duration_ms: i64,
    /// 0 success, 2 fail.
    status: u8,
    status_text: &'static str,
    /// 0 scheduled, 1 requested by a client.
    trigger_type: u8,
    msg_id: String,
    endpoint_id: String,
    #[schema(format = DateTime)]
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

impl<View: ToSchema> PartialSchema for List<View> {
    fn schema() -> RefOr<Schema> {
        let iterator = |text: &str| {
            ObjectBuilder::new()
                .schema_type([Type::String, Type::Null].into_iter().collect::<SchemaType>())
                .description(Some(text))
        };
        ObjectBuilder::new()
            .description(Some("A page of a list."))
            .property("data", ArrayBuilder::new().items(Ref::from_schema_name(View::name())))
            .property("iterator", iterator("The value of `iterator` for the next page."))
            .property("prevIterator", iterator("The value of `iterator` for the previous page."))
            .property("done", ObjectBuilder::new().schema_type(Type::Boolean))
            .required("data")
            .required("iterator")
            .required("prevIterator")
            .required("done")
            .into()
    }
}

impl<View: ToSchema> ToSchema for List<View> {
    fn name() -> Cow<'static, str> {
        format!("ListOf{}", View::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((View::name().into_owned(), View::schema()));
        View::schemas(schemas);
    }
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
pub(super) async fn read_application(
    api: &ApiState,
    tenant: TenantSeq,
) -> Result<Option<ApplicationView>, SvixError> {
    Ok(api.store.tenant(tenant).await?.map(|row| ApplicationView::new(&api.store, row)))
}
