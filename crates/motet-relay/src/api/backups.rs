//! `/v1/backups`

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json as JsonResponse;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Principal;
use super::extract::{Id, Json};
use super::problem::Problem;
use crate::clock::{millis, rfc3339};
use crate::store::{EndedBackup, RunningBackup};

/// A backup to make.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewBackup)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBackup {
    /// The absolute path of the file, which must not exist. Only for requests through the control socket of the data
    /// directory; without it the backup goes to the directory of backups.
    to: Option<String>,
}

/// A backup.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
pub(super) struct BackupView {
    /// The name of the file in the directory of backups.
    name: String,
    state: BackupState,
    /// When it was started. It has every event that was accepted before.
    #[schema(format = DateTime)]
    at: String,
    /// The size of the file, once it is finished.
    bytes: Option<u64>,
    /// How long it took, if relay has made it since the last start.
    took_ms: Option<i64>,
    /// The pages of the store, and how many of them are copied, while it is running.
    pages: Option<u64>,
    pages_copied: Option<u64>,
    /// Why it failed.
    error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum BackupState {
    Running,
    Finished,
    Failed,
}

/// All backups, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BackupList {
    /// The backup in progress, the latest one if it failed, and the files in the directory of backups.
    items: Vec<BackupView>,
}

impl From<RunningBackup> for BackupView {
    fn from(running: RunningBackup) -> Self {
        let RunningBackup { name, at, pages, copied, .. } = running;
        Self {
            name,
            state: BackupState::Running,
            at: rfc3339(at),
            bytes: None,
            took_ms: None,
            pages: Some(pages),
            pages_copied: Some(copied),
            error: None,
        }
    }
}

impl From<EndedBackup> for BackupView {
    fn from(ended: EndedBackup) -> Self {
        let EndedBackup { name, at, took, result, .. } = ended;
        let (bytes, error) = match result {
            Ok(bytes) => (Some(bytes), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            name,
            state: if error.is_some() { BackupState::Failed } else { BackupState::Finished },
            at: rfc3339(at),
            bytes,
            took_ms: took.map(millis),
            pages: None,
            pages_copied: None,
            error,
        }
    }
}

pub(super) async fn create(
    State(api): State<Arc<ApiState>>,
    sender: Principal,
    Json(CreateBackup { to }): Json<CreateBackup>,
) -> Result<(StatusCode, JsonResponse<BackupView>), Problem> {
    let to = match (to.map(PathBuf::from), sender) {
        (Some(_), Principal::Key(_)) => {
            let detail = "only a command on the machine of relay names the file of a backup (`motet-relay backup --to`); \
                          leave `to` out";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        (Some(to), Principal::Control) if !to.is_absolute() => {
            return Err(Problem::invalid(format!("`to` is {:?}, which is no absolute path", to.display())));
        }
        (to, _) => to,
    };
    let started = api.store.start_backup(to)?;
    Ok((StatusCode::ACCEPTED, JsonResponse(started.into())))
}

pub(super) async fn list(State(api): State<Arc<ApiState>>) -> Result<JsonResponse<BackupList>, Problem> {
    let running = api.store.running_backup().map(BackupView::from);
    let failed = api.store.latest_backup().filter(|latest| latest.result.is_err());
    let files = api.store.backup_files().await?;
    let ended = failed.into_iter().chain(files).map(BackupView::from);
    Ok(JsonResponse(BackupList { items: running.into_iter().chain(ended).collect() }))
}

pub(super) async fn read(
    State(api): State<Arc<ApiState>>,
    Id(name): Id,
) -> Result<JsonResponse<BackupView>, Problem> {
    if let Some(running) = api.store.running_backup().filter(|running| running.name == name) {
        return Ok(JsonResponse(running.into()));
    }
    if let Some(latest) = api.store.latest_backup().filter(|latest| latest.name == name) {
        return Ok(JsonResponse(latest.into()));
    }
    let file = api.store.backup_files().await?.into_iter().find(|file| file.name == name);
    file.map(|file| JsonResponse(file.into())).ok_or_else(|| Problem::not_found("backup", &name))
}
