//! `recover`, `replay-missing` and `bulk-replay` of an endpoint, and `/api/v1/background-task`: a task is a replay, or an
//! erasure of all contents, which the list of tasks leaves out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{SvixError, in_field};
use super::extract::{AppEndpoint, Body, IdempotencyKey, Query, TaskName};
use super::views::{List, TaskData, TaskView, TaskWithData, id_of_app};
use crate::api::ApiState;
use crate::api::auth::Principal;
use crate::api::endpoints::parse_patterns;
use crate::api::filters::parse_time;
use crate::api::names::check_names;
use crate::api::replays::check;
use crate::clock::{Millis, rfc3339};
use crate::ids::{IdKind, Ids};
use crate::store::{
    ErasureRow, ListPage, NewReplay, OnceKind, ReplayFilter, ReplayMode, ReplayRow, ReplayState,
};

/// The prefix of the ids of tasks; the rest is that of the replay's id.
const TASK: &str = "qtask_";
const REPLAY: &str = "rpl_";

/// The time of the messages to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ReplayIn {
    #[schema(format = DateTime)]
    since: String,
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// The messages to send again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BulkReplayIn {
    #[schema(format = DateTime)]
    since: String,
    #[schema(format = DateTime)]
    until: Option<String>,
    event_types: Option<Vec<String>>,
    channel: Option<String>,
    tag: Option<String>,
    /// 0 success, 2 fail, 4 canceled; success and fail if it is absent.
    status: Option<u8>,
    /// 100, 200, 300, 400 or 500.
    status_code_class: Option<u16>,
}

fn time(field: &str, text: &str) -> Result<Millis, SvixError> {
    parse_time(field, text).map_err(in_field(field))
}

impl ReplayIn {
    fn filter(self) -> Result<ReplayFilter, SvixError> {
        let until = self.until.map(|until| time("until", &until)).transpose()?;
        Ok(ReplayFilter { since: Some(time("since", &self.since)?), until, ..ReplayFilter::default() })
    }
}

impl BulkReplayIn {
    /// Returns `None` for a status that no message has at the end.
    fn mode(&self) -> Result<Option<ReplayMode>, SvixError> {
        match self.status {
            None => Ok(Some(ReplayMode::Sent)),
            Some(0) => Ok(Some(ReplayMode::Delivered)),
            Some(2) => Ok(Some(ReplayMode::Failed)),
            Some(4) => Ok(Some(ReplayMode::Skipped)),
            Some(1 | 3) => Ok(None),
            Some(other) => Err(SvixError::body("status", format!("{other} is not a status"))),
        }
    }

    fn filter(self) -> Result<ReplayFilter, SvixError> {
        let types = self.event_types.filter(|types| !types.is_empty());
        if let Some(types) = &types {
            parse_patterns(types).map_err(in_field("eventTypes"))?;
        }
        let status_class = match self.status_code_class {
            None => None,
            Some(class @ (100 | 200 | 300 | 400 | 500)) => Some(class / 100),
            Some(other) => {
                let message = format!("{other} is not 100, 200, 300, 400 or 500");
                return Err(SvixError::body("statusCodeClass", message));
            }
        };
        let filter = ReplayIn { since: self.since, until: self.until }.filter()?;
        let (channel, tag) = (self.channel, self.tag);
        for (field, name) in [("channel", &channel), ("tag", &tag)] {
            check_names(field, name.as_slice(), 1).map_err(in_field(field))?;
        }
        Ok(ReplayFilter { event_types: types, channel, tag, status_class, is_bulk: true, ..filter })
    }
}

/// Sends the messages again whose delivery has failed.
pub(super) async fn recover(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    sender: Principal,
    key: IdempotencyKey,
    Body(replay): Body<ReplayIn>,
) -> Result<(StatusCode, Json<TaskView>), SvixError> {
    start(&api, &endpoint, &sender, &key, ReplayMode::Failed, replay.filter()?).await
}

/// Sends the messages that the endpoint has never got.
pub(super) async fn replay_missing(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    sender: Principal,
    key: IdempotencyKey,
    Body(replay): Body<ReplayIn>,
) -> Result<(StatusCode, Json<TaskView>), SvixError> {
    start(&api, &endpoint, &sender, &key, ReplayMode::Missing, replay.filter()?).await
}

/// Sends the messages again that the endpoint has got or that have failed.
pub(super) async fn bulk_replay(
    State(api): State<Arc<ApiState>>,
    endpoint: AppEndpoint,
    sender: Principal,
    key: IdempotencyKey,
    Body(replay): Body<BulkReplayIn>,
) -> Result<(StatusCode, Json<TaskView>), SvixError> {
    let Some(mode) = replay.mode()? else {
        let message = "a message with this status is not sent again before it has ended; send 0, 2 or 4";
        return Err(SvixError::body("status", message));
    };
    start(&api, &endpoint, &sender, &key, mode, replay.filter()?).await
}

async fn start(
    api: &ApiState,
    endpoint: &AppEndpoint,
    sender: &Principal,
    key: &IdempotencyKey,
    mode: ReplayMode,
    filter: ReplayFilter,
) -> Result<(StatusCode, Json<TaskView>), SvixError> {
    let AppEndpoint { app, row } = endpoint;
    let once = key.once(OnceKind::Replay, format_args!("{}/{}", row.seq, mode.as_str()));
    let new = NewReplay { mode, endpoint: Some(row.seq), filter, requested_by: sender.key_id(), once };
    check(&new).map_err(in_field("until"))?;
    let plan = api.store.plan_replay(*app, &new).await?;
    let row = api.store.start_replay(*app, new, plan).await?;
    Ok((StatusCode::ACCEPTED, Json(task(api.store.ids(), &row))))
}

fn task_id(ids: Ids, seq: i64) -> String {
    ids.format(IdKind::Replay, seq).replacen(REPLAY, TASK, 1)
}

fn parse_task(ids: Ids, id: &str) -> Option<i64> {
    ids.parse(IdKind::Replay, &id.strip_prefix(TASK).map(|rest| format!("{REPLAY}{rest}"))?)
}

fn parse_erasure(ids: Ids, id: &str) -> Option<i64> {
    ids.parse(IdKind::Erasure, id.strip_prefix(TASK)?)
}

/// Returns the task of an erasure. Its id has the id of the erasure, so that it differs from those of replays.
pub(super) fn erasure_task(ids: Ids, row: &ErasureRow) -> TaskView {
    TaskView {
        id: format!("{TASK}{}", ids.format(IdKind::Erasure, row.seq)),
        status: if row.finished_at.is_some() { "finished" } else { "running" },
        task: "application.purge_content",
        updated_at: rfc3339(row.updated_at),
    }
}

fn status(state: ReplayState) -> &'static str {
    match state {
        ReplayState::Running => "running",
        // Svix has no state for a cancelled task.
        ReplayState::Finished | ReplayState::Cancelled => "finished",
        ReplayState::Failed => "failed",
    }
}

fn kind(row: &ReplayRow) -> &'static str {
    match row.mode {
        ReplayMode::Failed if !row.filter.is_bulk => "endpoint.recover",
        ReplayMode::Missing => "endpoint.replay",
        _ => "endpoint.bulk-replay",
    }
}

fn task(ids: Ids, row: &ReplayRow) -> TaskView {
    TaskView {
        id: task_id(ids, row.seq),
        status: status(row.state),
        task: kind(row),
        updated_at: rfc3339(row.updated_at),
    }
}

fn task_with_data(api: &ApiState, row: &ReplayRow) -> TaskWithData {
    let ids = api.store.ids();
    let data = TaskData {
        app_id: id_of_app(&api.store, row.tenant),
        endpoint_id: row.endpoint.map(|endpoint| ids.format(IdKind::Endpoint, endpoint)),
        messages_planned: row.planned,
        messages_sent: row.done,
        messages_erased: None,
        error: row.error.clone(),
    };
    TaskWithData { task: task(ids, row), data }
}

/// The replays of the sender's application, or of all of them, newest first.
pub(super) async fn list_tasks(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    mut query: Query,
) -> Result<Json<List<TaskWithData>>, SvixError> {
    let ids = api.store.ids();
    let wanted_status = query.text("status");
    let wanted_kind = query.text("task");
    if !query.is_descending(true)? {
        return Err(SvixError::query("order", "this list is newest first"));
    }
    let walk = query.page(true, |id| parse_task(ids, id))?.walk;
    query.finish()?;
    if !walk.is_descending {
        return Err(SvixError::query(
            "iterator",
            "this list has no previous pages; its prevIterator is null",
        ));
    }
    let state = match wanted_status.as_deref() {
        None | Some("finished") => None,
        Some("running") => Some(ReplayState::Running),
        Some("failed") => Some(ReplayState::Failed),
        Some(other) => return Err(SvixError::query("status", format!("{other:?} is not a status"))),
    };
    let found = api.store.replays(sender.tenant(), state, walk.from, walk.limit + 1).await?;
    let ListPage { mut rows, stopped_at } = found;
    let more = rows.len() > walk.limit;
    rows.truncate(walk.limit);
    let rows: Vec<_> = rows.into_iter().flatten().collect();
    let last = rows.last().map(|row| row.seq);
    let next = stopped_at.filter(|_| !more).or_else(|| last.filter(|_| more)).map(|seq| task_id(ids, seq));
    let is_wanted = |row: &&ReplayRow| {
        wanted_status.as_deref().is_none_or(|wanted| wanted == status(row.state))
            && wanted_kind.as_deref().is_none_or(|wanted| wanted == kind(row))
    };
    let views: Vec<_> =
        rows.iter().filter(is_wanted).map(|row| (task_id(ids, row.seq), task_with_data(&api, row))).collect();
    Ok(Json(List::new(views, next.is_none()).one_way().continued_at(next)))
}

pub(super) async fn read_task(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    TaskName(id): TaskName,
) -> Result<Json<TaskWithData>, SvixError> {
    let unknown = || SvixError::not_found("task", &id);
    if let Some(seq) = parse_erasure(api.store.ids(), &id) {
        let row = api.store.erasure(sender.tenant(), seq).await?.ok_or_else(unknown)?;
        let data = TaskData {
            app_id: id_of_app(&api.store, row.tenant),
            endpoint_id: None,
            messages_planned: 0,
            messages_sent: 0,
            messages_erased: Some(row.events),
            error: None,
        };
        return Ok(Json(TaskWithData { task: erasure_task(api.store.ids(), &row), data }));
    }
    let seq = parse_task(api.store.ids(), &id).ok_or_else(unknown)?;
    let row = api.store.replay_of_any(sender.tenant(), seq).await?.ok_or_else(unknown)?;
    Ok(Json(task_with_data(&api, &row)))
}
