//! `/healthz`, `/readyz` and `/metrics`: open to all, and so without names or URLs of endpoints.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use motet::container::{ComponentHealth, Health, Running};

use super::Edge;
use super::problem::Problem;
use crate::ids::Kind;

/// The process runs and answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// New events would be accepted: every part is healthy.
pub(super) async fn ready(State(parts): State<Arc<Running>>) -> Result<&'static str, Problem> {
    let report = parts.health().await;
    match report.components().iter().find(|part| part.own != Health::Healthy) {
        None => Ok("ready\n"),
        Some(ComponentHealth { error: Some(error), .. }) => Err(Problem::unavailable(error.to_string())),
        Some(ComponentHealth { name, own, .. }) => Err(Problem::unavailable(format!("{name} is {own}"))),
    }
}

/// Prometheus text. Gauges are read from the store here, so between scrapes they cost nothing.
pub(super) async fn metrics(State(app): State<Arc<Edge>>) -> Result<Response, Problem> {
    for (endpoint, backlog) in app.store.backlogs(i64::MAX).await? {
        let id = app.store.ids().format(Kind::Endpoint, endpoint.seq);
        metrics::gauge!("relay_endpoint_pending", "endpoint" => id.clone()).set(backlog.pending as f64);
        metrics::gauge!("relay_endpoint_dead", "endpoint" => id.clone()).set(backlog.dead as f64);
        metrics::gauge!("relay_endpoint_overdue_seconds", "endpoint" => id)
            .set(backlog.overdue as f64 / 1_000.0);
    }
    let log = motet::run::stderr_stats();
    metrics::counter!("relay_log_lines_lost_total", "reason" => "overflowed").absolute(log.overflowed);
    metrics::counter!("relay_log_lines_lost_total", "reason" => "failed").absolute(log.failed);
    metrics::gauge!("relay_connections").set(app.server.stats().connections as f64);
    metrics::gauge!("relay_feeds").set(app.feeds.taken() as f64);
    metrics::gauge!("relay_store_writable").set(if app.store.writable().await.is_ok() { 1.0 } else { 0.0 });
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response())
}
