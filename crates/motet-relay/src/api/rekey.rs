//! `/v1/rekey`: the change of the keys that encrypt the secrets in the store.

use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::problem::Problem;
use crate::clock::rfc3339;
use crate::ids::IdKind;
use crate::store::{RekeyReport, RekeyState};

/// How far a change of keys is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RekeyStateView {
    /// There was none since relay was started.
    Idle,
    Running,
    Finished,
    /// It has stopped because of an error, and continues at the next start.
    Failed,
}

/// A change of the keys that encrypt secrets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rekey)]
pub(super) struct RekeyView {
    #[schema(inline)]
    state: RekeyStateView,
    /// The id of the key that encrypts; `null` if secrets are stored in clear text.
    key: Option<String>,
    /// The path of the key file.
    key_file: Option<String>,
    /// The number of endpoints, and of those that were looked at.
    total: u64,
    done: u64,
    /// The number of endpoints with secrets that were encrypted again.
    changed: u64,
    /// The number of endpoints with secrets that cannot be decrypted.
    lost: u64,
    /// Some of these endpoints, at most 100.
    lost_endpoints: Vec<String>,
    /// The keys of the key file that no secret in the store needs any more. Backups may need them.
    unneeded_keys: Vec<String>,
    /// Why the latest step failed; it is tried again while the state is `running`.
    error: Option<String>,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
}

impl RekeyView {
    fn new(api: &ApiState) -> Self {
        let (report, key_file) = api.store.rekey_report();
        let RekeyReport { key, total, done, changed, lost, unneeded_keys, error, .. } = report;
        let state = match report.state {
            RekeyState::Idle => RekeyStateView::Idle,
            RekeyState::Running => RekeyStateView::Running,
            RekeyState::Finished => RekeyStateView::Finished,
            RekeyState::Failed => RekeyStateView::Failed,
        };
        let ids = api.store.ids();
        let lost_endpoints = report
            .lost_endpoints
            .into_iter()
            .map(|endpoint| ids.format(IdKind::Endpoint, endpoint))
            .collect();
        Self {
            state,
            key,
            key_file,
            total,
            done,
            changed,
            lost,
            lost_endpoints,
            unneeded_keys,
            error,
            started_at: report.started_at.map(rfc3339),
            finished_at: report.finished_at.map(rfc3339),
        }
    }
}

/// Reads the key file again, and begins to encrypt all secrets with its first key.
pub(super) async fn start(
    State(api): State<Arc<ApiState>>,
) -> Result<(StatusCode, JsonResponse<RekeyView>), Problem> {
    let report = api.store.rekey().await?;
    tracing::info!(key = report.key, "a client of the API has requested a change of keys");
    Ok((StatusCode::ACCEPTED, JsonResponse(RekeyView::new(&api))))
}

pub(super) async fn read(State(api): State<Arc<ApiState>>) -> JsonResponse<RekeyView> {
    JsonResponse(RekeyView::new(&api))
}
