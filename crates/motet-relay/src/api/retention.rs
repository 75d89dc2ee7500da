//! `/v1/retention`: the settings of retention, and what it would delete now.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonResponse;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::extract::Params;
use super::problem::Problem;
use super::tenant::id_of;
use crate::clock::{Millis, rfc3339};
use crate::config::Retention;
use crate::store::{KeepTimes, RetentionPlan, TenantRetention};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionParams {
    /// Plans with this time in place of relay's `payload_keep`, in seconds; 0: as long as the rows.
    payload_keep_s: Option<u32>,
    /// Plans with this time in place of relay's `rows_keep`, in seconds; 0: forever.
    rows_keep_s: Option<u32>,
    /// Plans with this size in place of relay's `max_bytes`.
    max_bytes: Option<u64>,
}

/// The settings of retention, and what it would delete now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Retention)]
pub(super) struct RetentionView {
    /// `false` if relay deletes nothing, because it is stopped or was started without retention.
    is_running: bool,
    /// How many seconds the data of finished events is kept; `null`: as long as their rows.
    payload_keep_s: Option<u64>,
    /// How many seconds finished events are kept; `null`: forever.
    rows_keep_s: Option<u64>,
    /// The size from which the oldest finished events are deleted; `null`: no limit.
    max_bytes: Option<u64>,
    /// The size of the database, without free pages.
    used_bytes: u64,
    /// The bytes that are to be freed because the store is larger than `max_bytes`.
    over_bytes: u64,
    /// Tenants with events.
    tenants: Vec<TenantRetentionView>,
    /// `true` if the plan ended at its limit, so there may be more to delete.
    more: bool,
}

/// The events that retention would delete of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantRetention)]
pub(super) struct TenantRetentionView {
    tenant: String,
    /// How many seconds the data of its finished events is kept; `null`: as long as their rows.
    payload_keep_s: Option<u64>,
    /// How many seconds its finished events are kept; `null`: forever.
    rows_keep_s: Option<u64>,
    /// Events whose data is due, and whose rows are not.
    payloads: u64,
    /// Events that are due with all their rows.
    events: u64,
    /// The size of the data of these events.
    bytes: u64,
    /// Due events that stay, because a delivery is pending, a replay may send them, or a repeated request is answered with
    /// them.
    in_use: u64,
    #[schema(format = DateTime)]
    oldest_event_at: Option<String>,
}

/// Returns what retention would delete now, with its own settings or with those of the query.
pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    Params(params): Params<RetentionParams>,
) -> Result<JsonResponse<RetentionView>, Problem> {
    let running = api.store.retention_settings();
    let base = running.cloned().unwrap_or_default();
    let given = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(seconds.into()));
    let settings = Retention {
        payload_keep: params.payload_keep_s.map_or(base.payload_keep, given),
        rows_keep: params.rows_keep_s.map_or(base.rows_keep, given),
        max_bytes: params.max_bytes.or(base.max_bytes),
    };
    let is_running = running.is_some();
    let plan = api.store.plan_retention(settings.clone()).await?;
    Ok(JsonResponse(RetentionView::new(&api, is_running, &settings, &plan)))
}

impl RetentionView {
    fn new(api: &ApiState, is_running: bool, settings: &Retention, plan: &RetentionPlan) -> Self {
        let tenants = plan.tenants.iter();
        Self {
            is_running,
            payload_keep_s: settings.payload_keep.map(|keep| keep.as_secs()),
            rows_keep_s: settings.rows_keep.map(|keep| keep.as_secs()),
            max_bytes: settings.max_bytes,
            used_bytes: plan.used_bytes,
            over_bytes: settings.max_bytes.map_or(0, |max| plan.used_bytes.saturating_sub(max)),
            tenants: tenants.filter_map(|tenant| TenantRetentionView::new(api, tenant)).collect(),
            more: plan.more,
        }
    }
}

impl TenantRetentionView {
    /// Returns `None` if the tenant was deleted since.
    fn new(api: &ApiState, row: &TenantRetention) -> Option<Self> {
        let TenantRetention { tenant, keep, payloads, events, bytes, in_use, oldest_at } = *row;
        let KeepTimes { data, rows } = keep;
        let seconds = |time: Millis| u64::try_from(time / 1_000).unwrap_or(0);
        Some(Self {
            tenant: id_of(api, tenant)?.to_string(),
            payload_keep_s: data.map(seconds),
            rows_keep_s: rows.map(seconds),
            payloads,
            events,
            bytes,
            in_use,
            oldest_event_at: oldest_at.map(rfc3339),
        })
    }
}
