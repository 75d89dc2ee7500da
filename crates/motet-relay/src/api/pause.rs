//! `/v1/pause` and `/v1/resume`: all deliveries of this relay.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use super::ApiState;
use super::problem::Problem;
use crate::store::PauseTarget;

pub(super) async fn pause(State(api): State<Arc<ApiState>>) -> Result<StatusCode, Problem> {
    set_paused(&api, true).await
}

pub(super) async fn resume(State(api): State<Arc<ApiState>>) -> Result<StatusCode, Problem> {
    set_paused(&api, false).await
}

async fn set_paused(api: &ApiState, paused: bool) -> Result<StatusCode, Problem> {
    api.store.set_paused(PauseTarget::Relay, paused).await?;
    tracing::info!(paused, "a client of the API paused or resumed all deliveries");
    Ok(StatusCode::NO_CONTENT)
}
