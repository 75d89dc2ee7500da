//! `/v1/replays`: jobs that send past events again.

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Principal;
use super::endpoints;
use super::extract::{Id, Json, Params};
use super::filters::{StatusClass, parse_time};
use super::names::check_names;
use super::paging::{ListResponse, PageRequest};
use super::problem::Problem;
use super::tenant::{Tenant, id_of};
use crate::clock::rfc3339;
use crate::ids::{IdKind, Ids};
use crate::store::{
    Cancelled, MissedEvents, NewReplay, ReplayFilter, ReplayMode, ReplayPartRow, ReplayPlan, ReplayRow,
    ReplayState,
};

/// The events to send again.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewReplay)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateReplay {
    mode: ReplayMode,
    /// The id of an endpoint; all endpoints of the tenant if it is absent.
    endpoint_id: Option<String>,
    /// Events that were published from this time on, as in RFC 3339.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Events that were published before this time, as in RFC 3339.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Patterns of event types; all event types if it is absent.
    event_types: Option<Vec<String>>,
    channel: Option<String>,
    tag: Option<String>,
    /// The class of the status of the last attempt: `1xx` to `5xx`, or `100` to `500`.
    #[schema(value_type = Option<String>, pattern = "^[1-5](xx|00)$")]
    status_class: Option<StatusClass>,
    /// Maximum number of deliveries per second and endpoint.
    #[schema(minimum = 1)]
    rate: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateParams {
    /// `true` only counts the deliveries.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayListParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
    /// The id of a tenant, or `*` for all tenants. Without it, the tenant of the key.
    tenant: Option<String>,
    /// The state of the replays.
    #[param(inline)]
    state: Option<ReplayState>,
}

/// The number of deliveries that a replay would make.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayPlan)]
pub(super) struct PlanView {
    mode: ReplayMode,
    planned: u64,
    /// `true` if the count ended at its limit.
    more: bool,
    endpoints: Vec<PlannedEndpoint>,
}

/// The part of a plan for an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlannedEndpoint)]
pub(super) struct PlannedEndpoint {
    endpoint_id: String,
    planned: u64,
}

/// A job that sends past events again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub(super) struct ReplayView {
    id: String,
    tenant: String,
    mode: ReplayMode,
    endpoint_id: Option<String>,
    #[schema(format = DateTime)]
    since: Option<String>,
    #[schema(format = DateTime)]
    until: Option<String>,
    event_types: Option<Vec<String>>,
    channel: Option<String>,
    tag: Option<String>,
    status_class: Option<String>,
    rate: Option<u32>,
    state: ReplayState,
    /// Deliveries that were found when the replay was created.
    planned: u64,
    /// `true` if that count ended at its limit.
    planned_more: bool,
    /// Deliveries that the replay has made or made due again.
    done: u64,
    /// Deliveries that were found and had changed before their turn.
    skipped: u64,
    error: Option<String>,
    /// The id of the API key.
    requested_by: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
}

/// A replay with its progress at each endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayWithProgress)]
pub(super) struct ReplayDetail {
    #[serde(flatten)]
    replay: ReplayView,
    endpoints: Vec<ReplayProgress>,
}

/// The progress of a replay at an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayProgress)]
pub(super) struct ReplayProgress {
    endpoint_id: String,
    planned: u64,
    done: u64,
    skipped: u64,
    finished: bool,
    /// `true` if the replay waits here because the endpoint is disabled.
    held: bool,
}

/// The events that an endpoint did not get while it did not exist or was disabled. `POST /v1/replays` with this mode sends
/// them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MissedEvents)]
pub(super) struct MissedView {
    mode: ReplayMode,
    count: u64,
    /// `true` if the count ended at its limit.
    more: bool,
    /// When the first of them was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    since: Option<String>,
}

impl MissedView {
    /// Returns `None` if the endpoint has missed nothing.
    pub(super) fn new(mode: ReplayMode, missed: MissedEvents) -> Option<Self> {
        let MissedEvents { count, more, since } = missed;
        (count > 0 || more).then(|| Self { mode, count, more, since: since.map(rfc3339) })
    }
}

impl PlanView {
    fn new(ids: Ids, mode: ReplayMode, plan: &ReplayPlan) -> Self {
        let endpoint = |part: &crate::store::PlannedPart| PlannedEndpoint {
            endpoint_id: ids.format(IdKind::Endpoint, part.endpoint),
            planned: part.planned,
        };
        let endpoints = plan.endpoints.iter().map(endpoint).collect();
        Self { mode, planned: plan.total(), more: plan.more, endpoints }
    }
}

impl ReplayView {
    fn new(ids: Ids, tenant: &str, row: ReplayRow) -> Self {
        let ReplayFilter { since, until, event_types, channel, tag, status_class, rate, .. } = row.filter;
        Self {
            id: ids.format(IdKind::Replay, row.seq),
            tenant: tenant.to_owned(),
            mode: row.mode,
            endpoint_id: row.endpoint.map(|endpoint| ids.format(IdKind::Endpoint, endpoint)),
            since: since.map(rfc3339),
            until: until.map(rfc3339),
            event_types,
            channel,
            tag,
            status_class: status_class.map(|class| format!("{class}xx")),
            rate,
            state: row.state,
            planned: row.planned,
            planned_more: row.planned_more,
            done: row.done,
            skipped: row.skipped,
            error: row.error,
            requested_by: row.requested_by,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
            finished_at: row.finished_at.map(rfc3339),
        }
    }
}

impl ReplayProgress {
    fn new(ids: Ids, row: &ReplayPartRow) -> Self {
        let ReplayPartRow { endpoint, planned, done, skipped, is_finished, is_held } = *row;
        let endpoint_id = ids.format(IdKind::Endpoint, endpoint);
        Self { endpoint_id, planned, done, skipped, finished: is_finished, held: is_held }
    }
}

impl CreateReplay {
    fn check(self, api: &ApiState, sender: &Principal) -> Result<NewReplay, Problem> {
        let endpoint = self.endpoint_id.as_deref().map(|id| endpoints::parse_id(api, id)).transpose()?;
        let time = |field, text: Option<String>| text.map(|text| parse_time(field, &text)).transpose();
        let (since, until) = (time("since", self.since)?, time("until", self.until)?);
        if let Some(types) = &self.event_types {
            endpoints::parse_patterns(types)?;
        }
        for (field, name) in [("channel", &self.channel), ("tag", &self.tag)] {
            check_names(field, name.as_slice(), 1)?;
        }
        let status_class = self.status_class.map(|StatusClass(class)| class);
        if self.rate == Some(0) {
            return Err(Problem::invalid("rate is 0; it must be at least 1"));
        }
        let filter = ReplayFilter {
            since,
            until,
            event_types: self.event_types,
            channel: self.channel,
            tag: self.tag,
            status_class,
            rate: self.rate,
            is_bulk: false,
        };
        let new = NewReplay { mode: self.mode, endpoint, filter, requested_by: sender.key_id(), once: None };
        check(&new)?;
        Ok(new)
    }
}

/// Checks conditions that depend on each other.
pub(super) fn check(new: &NewReplay) -> Result<(), Problem> {
    let ReplayFilter { since, until, status_class, .. } = new.filter;
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Problem::invalid("since is not before until"));
    }
    if status_class.is_some() && matches!(new.mode, ReplayMode::Missing | ReplayMode::Skipped) {
        let mode = new.mode.as_str();
        return Err(Problem::invalid(format!("status_class: an event that is {mode} has no attempt")));
    }
    Ok(())
}

/// Creates a replay, or with `dry_run` only its plan.
pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    tenant: Tenant,
    Params(params): Params<CreateParams>,
    Json(create): Json<CreateReplay>,
) -> Result<Response, Problem> {
    let new = create.check(&api, &sender)?;
    let (ids, mode) = (api.store.ids(), new.mode);
    let plan = api.store.plan_replay(tenant.seq, &new).await?;
    if params.dry_run {
        return Ok(JsonResponse(PlanView::new(ids, mode, &plan)).into_response());
    }
    let row = api.store.start_replay(tenant.seq, new, plan).await?;
    let view = view(&api, row)?;
    Ok((StatusCode::ACCEPTED, JsonResponse(view)).into_response())
}

pub(super) async fn list(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Params(params): Params<ReplayListParams>,
) -> Result<JsonResponse<ListResponse<ReplayView>>, Problem> {
    let ids = api.store.ids();
    let page = PageRequest::read(ids, IdKind::Replay, params.limit, params.cursor.as_deref())?;
    let tenant = tenant.of_list(&api, params.tenant.as_deref())?;
    let found = api.store.replays(tenant, params.state, page.before, page.fetch()).await?;
    let stopped_at = found.stopped_at.map(|seq| ids.format(IdKind::Replay, seq));
    let rows: Vec<_> = found.rows.into_iter().flatten().collect();
    let id = |row: &ReplayRow| ids.format(IdKind::Replay, row.seq);
    // A row of a tenant that was deleted just now is left out.
    let view = |row: ReplayRow| Some(ReplayView::new(ids, &id_of(&api, row.tenant)?, row));
    Ok(JsonResponse(page.answer_of_scan(rows, stopped_at, id, view)))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Id(id): Id,
) -> Result<JsonResponse<ReplayDetail>, Problem> {
    let found = api.store.replay(tenant.seq, parse_id(&api, &id)?).await?;
    let (row, parts) = found.ok_or_else(|| unknown(&id))?;
    let endpoints = parts.iter().map(|part| ReplayProgress::new(api.store.ids(), part)).collect();
    Ok(JsonResponse(ReplayDetail { replay: view(&api, row)?, endpoints }))
}

pub(super) async fn cancel(
    State(api): State<Arc<ApiState>>,
    tenant: Tenant,
    Id(id): Id,
) -> Result<JsonResponse<ReplayView>, Problem> {
    match api.store.cancel_replay(tenant.seq, parse_id(&api, &id)?).await? {
        Some(Cancelled::Done(row)) => Ok(JsonResponse(view(&api, *row)?)),
        Some(Cancelled::Ended(state)) => {
            let detail = format!("the replay has ended already: it is {}", state.as_str());
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        None => Err(unknown(&id)),
    }
}

fn view(api: &ApiState, row: ReplayRow) -> Result<ReplayView, Problem> {
    let ids = api.store.ids();
    let tenant = id_of(api, row.tenant).ok_or_else(|| unknown(&ids.format(IdKind::Replay, row.seq)))?;
    Ok(ReplayView::new(ids, &tenant, row))
}

fn parse_id(api: &ApiState, id: &str) -> Result<i64, Problem> {
    api.store.ids().parse(IdKind::Replay, id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("replay", id)
}
