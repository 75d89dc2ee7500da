//! `/healthz`, `/readyz` and `/metrics`: open to all clients, and therefore without endpoints, tenants and texts of errors.
//! A key with the scope `read` for all tenants also gets the series of each endpoint, and the error of a part that is not
//! healthy.
//!
//! Any client may send these requests, so each check runs at most once a second, with a reader of its own.

use std::convert::Infallible;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use motet::batch::Batcher;
use motet::container::{ComponentHealth, Health, Running};
use motet::observe::MetricsExporter;
use motet::task::Scope;
use tokio::time::Instant;

use super::ApiState;
use super::problem::Problem;
use crate::ids::{IdKind, Ids};
use crate::store::{Backlog, StoreError};

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

/// Whether the sender of a request may see what the open response leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Open,
    Full,
}

impl<S> FromRequestParts<S> for Detail
where
    S: Send + Sync,
    Arc<ApiState>: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let api = Arc::<ApiState>::from_ref(state);
        Ok(if api.api_keys.sees_all_tenants(parts) { Self::Full } else { Self::Open })
    }
}

/// A part that is not healthy.
#[derive(Debug, Clone)]
struct Unhealthy {
    part: String,
    error: String,
}

/// The state of `/readyz`.
#[derive(Debug, Clone)]
pub(super) struct Readyz {
    api: Arc<ApiState>,
    unhealthy: Arc<CachedCheck<Option<Unhealthy>>>,
}

impl FromRef<Readyz> for Arc<ApiState> {
    fn from_ref(state: &Readyz) -> Self {
        Self::clone(&state.api)
    }
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

/// The metrics as Prometheus text.
#[derive(Debug, Clone)]
struct Rendered {
    open: Arc<str>,
    /// The series of each endpoint.
    endpoints: Arc<str>,
}

/// The state of `/metrics`.
#[derive(Debug, Clone)]
pub(super) struct Scrape {
    api: Arc<ApiState>,
    text: Arc<CachedCheck<Result<Rendered, StoreError>>>,
}

impl FromRef<Scrape> for Arc<ApiState> {
    fn from_ref(state: &Scrape) -> Self {
        Self::clone(&state.api)
    }
}

impl Scrape {
    pub(super) fn new(scope: &Scope, api: &Arc<ApiState>) -> Self {
        let (own, api, scope_of_relay) = (Arc::clone(api), Arc::clone(api), scope.clone());
        let exporter = Arc::new(Mutex::new(MetricsExporter::new()));
        let compute = move || {
            let (api, scope, exporter) = (Arc::clone(&api), scope_of_relay.clone(), Arc::clone(&exporter));
            async move {
                exporter.lock().unwrap_or_else(PoisonError::into_inner).record(&scope.snapshot());
                render(&api).await
            }
        };
        Self { api: own, text: Arc::new(CachedCheck::new(scope, "metrics", compute)) }
    }
}

/// Responds as long as the process runs.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Succeeds if new events would be accepted: every part is healthy.
pub(super) async fn ready(
    State(Readyz { api, unhealthy }): State<Readyz>,
    detail: Detail,
) -> Result<&'static str, Problem> {
    // Not cached: a load balancer must see the shutdown at once.
    if api.readiness.is_stopping() {
        return Err(Problem::unavailable("shutting down"));
    }
    match (unhealthy.get().await?, detail) {
        (None, _) => Ok("ready\n"),
        (Some(Unhealthy { error, .. }), Detail::Full) => Err(Problem::unavailable(error)),
        (Some(Unhealthy { part, .. }), Detail::Open) => Err(Problem::unavailable(format!(
            "{part} is not healthy; the log has the reason, and so has this response for a key with the scope 'read' \
             for all tenants"
        ))),
    }
}

/// Returns the part that is not healthy, if there is one.
async fn unhealthy_part(parts: &Running) -> Option<Unhealthy> {
    let report = parts.health().await;
    let part = report.components().iter().find(|part| part.own != Health::Healthy)?;
    let ComponentHealth { name, own, error, .. } = part;
    let error = error.as_ref().map_or_else(|| format!("{name} is {own}"), ToString::to_string);
    Some(Unhealthy { part: name.to_string(), error })
}

/// Returns the metrics as Prometheus text.
pub(super) async fn metrics(
    State(Scrape { text, .. }): State<Scrape>,
    detail: Detail,
) -> Result<Response, Problem> {
    let Rendered { open, endpoints } = text.get().await??;
    let text = match detail {
        Detail::Full => format!("{open}{endpoints}"),
        Detail::Open => {
            format!("{open}# The series of each endpoint need a key with the scope 'read' for all tenants.\n")
        }
    };
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Renders the metrics. Gauges are read from the store here, so they cost nothing between two scrapes.
async fn render(api: &ApiState) -> Result<Rendered, StoreError> {
    let backlogs = api.store.all_backlogs().await?;
    let sum = |count: fn(&Backlog) -> u64| backlogs.iter().map(|(_, backlog)| count(backlog)).sum::<u64>();
    metrics::gauge!("relay_pending").set(sum(|backlog| backlog.pending) as f64);
    metrics::gauge!("relay_dead").set(sum(|backlog| backlog.dead) as f64);
    let overdue = backlogs.iter().map(|(_, backlog)| backlog.overdue).max().unwrap_or(0);
    metrics::gauge!("relay_overdue_seconds").set(overdue as f64 / 1_000.0);
    let (oldest, lag) = api.store.retention_ages().await?;
    metrics::gauge!("relay_oldest_event_seconds").set(oldest.unwrap_or(0.0));
    metrics::gauge!("relay_retention_lag_seconds").set(lag);
    let log = motet::run::stderr_stats();
    metrics::counter!("relay_log_lines_lost_total", "reason" => "overflowed").absolute(log.overflowed);
    metrics::counter!("relay_log_lines_lost_total", "reason" => "failed").absolute(log.failed);
    metrics::gauge!("relay_connections").set(api.server.stats().connections as f64);
    metrics::gauge!("relay_feeds").set(api.feeds.taken() as f64);
    metrics::gauge!("relay_store_writable").set(if api.store.writable().await.is_ok() { 1.0 } else { 0.0 });
    if let Some((at, bytes)) = api.store.latest_good_backup() {
        let age = (api.store.clock().wall() - at).max(0);
        metrics::gauge!("relay_backup_age_seconds").set(age as f64 / 1_000.0);
        metrics::gauge!("relay_backup_bytes").set(bytes as f64);
    }
    let disk = api.store.disk_use().await?;
    metrics::gauge!("relay_disk_free_bytes").set(disk.free as f64);
    for (file, bytes) in [("database", disk.database), ("log", disk.log)] {
        metrics::gauge!("relay_store_bytes", "file" => file).set(bytes as f64);
    }
    for (of, used) in api.memory.used() {
        metrics::gauge!("relay_body_bytes", "of" => of).set(used as f64);
    }
    let open = api.metrics.render().into();
    Ok(Rendered { open, endpoints: render_endpoints(api.store.ids(), &backlogs).into() })
}

/// Returns the value of a gauge of an endpoint.
type GaugeValue = fn(&Backlog) -> f64;

/// Renders the series of each endpoint. They are not in the recorder, which renders for every client.
fn render_endpoints(ids: Ids, backlogs: &[(i64, Backlog)]) -> String {
    let values: [(&str, GaugeValue); 3] = [
        ("relay_endpoint_pending", |backlog| backlog.pending as f64),
        ("relay_endpoint_dead", |backlog| backlog.dead as f64),
        ("relay_endpoint_overdue_seconds", |backlog| backlog.overdue as f64 / 1_000.0),
    ];
    let mut text = String::new();
    for (name, value) in values {
        // Writing to a String never fails.
        let _infallible = writeln!(text, "# TYPE {name} gauge");
        for (endpoint, backlog) in backlogs {
            let id = ids.format(IdKind::Endpoint, *endpoint);
            let _infallible = writeln!(text, "{name}{{endpoint=\"{id}\"}} {}", value(backlog));
        }
        text.push('\n');
    }
    text
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
