//! `/healthz`, `/readyz` and `/metrics`: open to all clients, and therefore without names or URLs of endpoints.
//!
//! Any client may send these requests, so each check runs at most once a second, with a reader of its own.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use motet::batch::Batcher;
use motet::container::{ComponentHealth, Health, Running};
use motet::observe::MetricsExporter;
use motet::task::Scope;
use tokio::time::Instant;

use super::ApiState;
use super::problem::Problem;
use crate::ids::IdKind;
use crate::store::StoreError;

/// How long the result of a check is reused.
const FRESH: Duration = Duration::from_secs(1);

/// A check whose result is shared by all requests within a second. One of the requests runs it.
pub(super) struct CachedCheck<T>(Batcher<(), T, Infallible>);

impl<T: Clone + Send + Sync + 'static> CachedCheck<T> {
    pub(super) fn new<F>(
        scope: &Scope,
        name: &'static str,
        compute: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let last = Arc::new(Mutex::new(None::<(Instant, T)>));
        let compute = Arc::new(compute);
        let batcher = Batcher::builder(scope).name(name).eager().max_delay(None).max_in_flight(1);
        let batcher = batcher.build(move |askers: Vec<()>| {
            let (last, compute) = (Arc::clone(&last), Arc::clone(&compute));
            async move {
                let known = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let answer = match known {
                    Some((at, answer)) if at.elapsed() < FRESH => answer,
                    _ => {
                        let answer = compute().await;
                        *last.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some((Instant::now(), answer.clone()));
                        answer
                    }
                };
                Ok(vec![Ok(answer); askers.len()])
            }
        });
        Self(batcher.expect("these settings are valid"))
    }

    async fn get(&self) -> Result<T, Problem> {
        // Fails if too many requests wait, or relay ends.
        self.0.submit(()).await.map_err(|refused| Problem::unavailable(refused.to_string()))
    }
}

impl<T> fmt::Debug for CachedCheck<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedCheck").finish_non_exhaustive()
    }
}

/// The state of `/readyz`.
#[derive(Debug, Clone)]
pub(super) struct Readyz {
    api: Arc<ApiState>,
    unhealthy: Arc<CachedCheck<Option<String>>>,
}

impl Readyz {
    pub(super) fn new(scope: &Scope, api: &Arc<ApiState>, parts: Arc<Running>) -> Self {
        let compute = move || {
            let parts = Arc::clone(&parts);
            async move { unhealthy_part(&parts).await }
        };
        Self { api: Arc::clone(api), unhealthy: Arc::new(CachedCheck::new(scope, "readiness", compute)) }
    }
}

/// The state of `/metrics`.
#[derive(Debug, Clone)]
pub(super) struct Scrape(Arc<CachedCheck<Result<String, StoreError>>>);

impl Scrape {
    pub(super) fn new(scope: &Scope, api: &Arc<ApiState>) -> Self {
        let (api, scope_of_relay) = (Arc::clone(api), scope.clone());
        let exporter = Arc::new(Mutex::new(MetricsExporter::new()));
        let compute = move || {
            let (api, scope, exporter) = (Arc::clone(&api), scope_of_relay.clone(), Arc::clone(&exporter));
            async move {
                exporter.lock().unwrap_or_else(PoisonError::into_inner).record(&scope.snapshot());
                render(&api).await
            }
        };
        Self(Arc::new(CachedCheck::new(scope, "metrics", compute)))
    }
}

/// Responds as long as the process runs.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Succeeds if new events would be accepted: every part is healthy.
pub(super) async fn ready(State(Readyz { api, unhealthy }): State<Readyz>) -> Result<&'static str, Problem> {
    // Not cached: a load balancer must see the shutdown at once.
    if api.readiness.is_stopping() {
        return Err(Problem::unavailable("shutting down"));
    }
    unhealthy.get().await?.map_or(Ok("ready\n"), |unhealthy| Err(Problem::unavailable(unhealthy)))
}

/// Returns the reason why a part is not healthy, if there is one.
async fn unhealthy_part(parts: &Running) -> Option<String> {
    let report = parts.health().await;
    let part = report.components().iter().find(|part| part.own != Health::Healthy)?;
    Some(match part {
        ComponentHealth { error: Some(error), .. } => error.to_string(),
        ComponentHealth { name, own, .. } => format!("{name} is {own}"),
    })
}

/// Returns the metrics as Prometheus text.
pub(super) async fn metrics(State(Scrape(text)): State<Scrape>) -> Result<Response, Problem> {
    let text = text.get().await??;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Renders the metrics. Gauges are read from the store here, so they cost nothing between two scrapes.
async fn render(api: &ApiState) -> Result<String, StoreError> {
    for (endpoint, backlog) in api.store.all_backlogs().await? {
        let id = api.store.ids().format(IdKind::Endpoint, endpoint.seq);
        metrics::gauge!("relay_endpoint_pending", "endpoint" => id.clone()).set(backlog.pending as f64);
        metrics::gauge!("relay_endpoint_dead", "endpoint" => id.clone()).set(backlog.dead as f64);
        metrics::gauge!("relay_endpoint_overdue_seconds", "endpoint" => id)
            .set(backlog.overdue as f64 / 1_000.0);
    }
    let log = motet::run::stderr_stats();
    metrics::counter!("relay_log_lines_lost_total", "reason" => "overflowed").absolute(log.overflowed);
    metrics::counter!("relay_log_lines_lost_total", "reason" => "failed").absolute(log.failed);
    metrics::gauge!("relay_connections").set(api.server.stats().connections as f64);
    metrics::gauge!("relay_feeds").set(api.feeds.taken() as f64);
    metrics::gauge!("relay_store_writable").set(if api.store.writable().await.is_ok() { 1.0 } else { 0.0 });
    for (of, used) in api.memory.used() {
        metrics::gauge!("relay_body_bytes", "of" => of).set(used as f64);
    }
    Ok(api.metrics.render())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use motet::task::{Nursery, scope};
    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_within_a_second_share_one_check() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let looked = scope(async |n: &Nursery<Infallible>| {
            let check = Arc::new(CachedCheck::new(n, "check", move || {
                let counted = Arc::clone(&counted);
                async move {
                    sleep(FRESH / 10).await;
                    counted.fetch_add(1, Ordering::Relaxed) + 1
                }
            }));
            let mut answers = Vec::new();
            for _ in 0..3 {
                let asking: Vec<_> = (0..100)
                    .map(|_| {
                        let check = Arc::clone(&check);
                        n.spawn("asking", async move { check.get().await.unwrap() })
                    })
                    .collect();
                for asking in asking {
                    answers.push(asking.await.unwrap());
                }
                advance(FRESH / 2).await;
                answers.push(check.get().await.unwrap());
                advance(FRESH).await;
            }
            Ok(answers)
        });
        let answers = looked.await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert!(
            answers
                .chunks(101)
                .zip(1..)
                .all(|(round, compute)| round.iter().all(|answer| *answer == compute))
        );
    }
}
