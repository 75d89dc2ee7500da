//! The HTTP API.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use motet::batch::SubmitError;
use serde::{Deserialize, Serialize};

use crate::{Service, StoreError};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewOrder {
    pub item: String,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub number: i64,
    pub item: String,
    pub count: u32,
    pub confirmed: bool,
}

pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/orders", post(create))
        .route("/orders/{number}", get(read))
        .route("/readyz", get(async |State(service): State<Arc<Service>>| service.readiness.status()))
        .route("/metrics", get(async |State(service): State<Arc<Service>>| service.metrics.render()))
        .with_state(service)
}

/// Answers when the order is on disk.
async fn create(
    State(service): State<Arc<Service>>,
    Json(order): Json<NewOrder>,
) -> Result<(StatusCode, Json<i64>), Problem> {
    if order.count == 0 {
        return Err(Problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`count` is 0; it must be at least 1".to_owned(),
        ));
    }
    let number = service.batcher.submit(order).await?;
    Ok((StatusCode::CREATED, Json(number)))
}

async fn read(State(service): State<Arc<Service>>, Path(number): Path<i64>) -> Result<Json<Order>, Problem> {
    let order = service.store.read(number).await?;
    order.map(Json).ok_or_else(|| Problem(StatusCode::NOT_FOUND, format!("there is no order {number}")))
}

/// An error response.
struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        Self(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer; try again later".to_owned())
    }
}

impl From<SubmitError<NewOrder, StoreError>> for Problem {
    fn from(refused: SubmitError<NewOrder, StoreError>) -> Self {
        tracing::error!(error = &refused as &dyn std::error::Error, "an order was not stored");
        Self(StatusCode::SERVICE_UNAVAILABLE, "the order was not stored; try again later".to_owned())
    }
}
