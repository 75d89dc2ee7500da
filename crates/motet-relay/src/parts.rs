//! The parts of relay and their dependencies, as one container.
//!
//! The container builds the parts, checks their health, and stops them in reverse order in the last phase of the
//! shutdown. The listener and the dispatcher's loop are members of earlier phases and take the parts that they need
//! from the container.

use std::future::ready;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use motet::container::{Container, Running};
use motet::event::Emitter;
use motet::periodic::every;
use motet::task::Scope;
use motet_http::{Readiness, Server};

use crate::api::{ApiKeys, ApiState, FeedSlots, MemoryBudget, TenantBulkheads};
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::{Dispatcher, ReplayDriver};
use crate::error::StartError;
use crate::guard::AddressGuard;
use crate::lifecycle::Lifecycle;
use crate::outbound::Outbound;
use crate::store::{Store, StoreError, StoreOptions, keep_backups, keep_keys_up};
use crate::tls;

/// The log has about 64 MiB at most; a slow disk writes it into the database within this time.
pub(crate) const STORE_CLOSE: Duration = Duration::from_secs(10);

/// Requests in flight have this long once the deliveries are drained.
pub(crate) const HTTP_GRACE: Duration = Duration::from_secs(5);

/// Connections that are reserved for health checks and metrics.
const HEALTH_CONNECTIONS: usize = 16;

/// Histograms collect samples until they are folded; folding them this often bounds their number when no client
/// scrapes the metrics.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// A gauge that was not set for this long is not rendered.
const GAUGE_KEPT: Duration = Duration::from_secs(30);

/// Upper bounds in seconds, from a commit or a loopback delivery to beyond the total timeout of an attempt.
const BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

pub(crate) fn container(config: Config) -> Container {
    let mut c = Container::new();
    c.name("relay");
    c.value(config);
    c.provide(|config: Arc<Config>| async move { AddressGuard::new(config.allow_net.clone()) });
    c.provide(
        |scope: Scope| async move { Lifecycle::new(Emitter::builder(&scope).name("lifecycle").build()) },
    )
    // Delivers the events that are already in the backlogs of listeners.
    .on_stop(|lifecycle| async move { lifecycle.emitter().drain().await });
    c.try_provide(metrics);
    c.try_provide(open_store)
        // A read that panics because of a bug is an error for its caller only.
        .isolated()
        // The start must replay the whole log, however long it is.
        .start_timeout(Duration::MAX)
        .stop_timeout(STORE_CLOSE)
        .on_stop(close_store)
        .health(|store| async move { store.health().await });
    c.try_provide(load_keys);
    c.provide(|| async { Readiness::new() }).health(|readiness| async move { accepts_events(&readiness) });
    c.try_provide(|config: Arc<Config>, readiness: Arc<Readiness>, scope: Scope| async move {
        let server = Server::builder().name("api").readiness(&readiness).grace(HTTP_GRACE);
        let mut server = server.max_connections(config.max_connections.get());
        if let Some(files) = config.certificate() {
            server = server.tls(tls::server_config(files, &scope).await?);
        }
        let server = server.reserved_connections(HEALTH_CONNECTIONS);
        Ok::<_, StartError>(server.build().expect("these settings are valid"))
    });
    c.try_provide(|config: Arc<Config>, guard: Arc<AddressGuard>, scope: Scope| async move {
        let (timeouts, kept) = (config.timeouts.clone(), config.in_flight.per_endpoint.get());
        Outbound::new((*guard).clone(), timeouts, kept, &scope)
    })
    // A connection that panics because of a bug fails the attempt that uses it.
    .isolated();
    c.try_provide(
        |config: Arc<Config>, store: Arc<Store>, outbound: Arc<Outbound>, lifecycle: Arc<Lifecycle>| async move {
            Dispatcher::new(&config, &store, outbound, lifecycle).map_err(StartError::Settings)
        },
    )
    .health(|dispatcher| async move { dispatcher.can_attempt() });
    c.provide(|config: Arc<Config>, store: Arc<Store>| async move { ReplayDriver::new(&config, &store) });
    c.try_provide(|config: Arc<Config>, scope: Scope| async move {
        FeedSlots::new(&config.feeds, &scope).map_err(StartError::Settings)
    });
    c.provide(
        |store: Arc<Store>,
         api_keys: Arc<ApiKeys>,
         guard: Arc<AddressGuard>,
         readiness: Arc<Readiness>,
         server: Arc<Server>,
         feeds: Arc<FeedSlots>,
         metrics: Arc<PrometheusHandle>,
         lifecycle: Arc<Lifecycle>| async move {
            let store = (*store).clone();
            let memory = Arc::new(MemoryBudget::new());
            let reads = Arc::new(TenantBulkheads::of_reads());
            ApiState { store, api_keys, guard, readiness, server, feeds, metrics, lifecycle, memory, reads }
        },
    );
    c
}

/// Returns a part. All parts exist once the container has started.
pub(crate) fn part<T: Send + Sync + 'static>(running: &Running) -> Arc<T> {
    running.get().expect("the container provides it")
}

/// Returns an error with the reason if new events are refused.
fn accepts_events(readiness: &Readiness) -> Result<(), &'static str> {
    if readiness.is_ready() {
        Ok(())
    } else if readiness.is_stopping() {
        Err("shutting down")
    } else {
        Err("starting")
    }
}

async fn open_store(config: Arc<Config>, scope: Scope) -> Result<Store, StartError> {
    let options = StoreOptions {
        directory: config.data.clone(),
        max_bytes: config.max_store_bytes,
        retention: config.retention.clone(),
        longest_delay: config.retry.cap,
        auto_disable: config.auto_disable.clone(),
        tenant_quotas: config.tenant_quotas.clone(),
        backups: config.backups.directory.clone(),
        secret_keys: config.secret_keys.clone(),
        store_use: config.store_use.clone(),
    };
    let store = Store::open(&options, Clock::new(), &scope).map_err(StartError::open)?;
    if let Some(every) = config.backups.every {
        // The spawn fails only if the scope has ended, and relay with it.
        drop(scope.service("backup schedule", keep_backups(store.clone(), every, config.backups.keep.get())));
    }
    Ok(store)
}

async fn load_keys(store: Arc<Store>, scope: Scope) -> Result<ApiKeys, StartError> {
    let api_keys = ApiKeys::load(&store).await?;
    // The spawn fails only if the scope has ended, and relay with it.
    drop(scope.service("api keys", keep_keys_up((*store).clone())));
    Ok(api_keys)
}

async fn close_store(store: Arc<Store>) {
    if let Err(error) = store.close().await {
        let error: StoreError = error;
        tracing::warn!(%error, "the last checkpoint failed; the next start replays the log");
    }
    tracing::info!("stopped");
}

/// Returns the recorder of the process, which is created once; several relays in one process share it.
async fn metrics(scope: Scope) -> Result<PrometheusHandle, StartError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| install_recorder().map_err(|error| error.to_string()));
    let handle = handle.clone().map_err(StartError::Metrics)?;
    let upkeep = every(METRICS_UPKEEP).expect("the interval is not zero").name("upkeep of metrics");
    let folded = handle.clone();
    let fold = move || {
        folded.run_upkeep();
        ready(())
    };
    // The start fails only if the scope has ended, and relay with it.
    drop(upkeep.start(&scope, fold));
    Ok(handle)
}

fn install_recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_jobs".to_owned()), &[1.0, 4.0, 16.0, 64.0, 256.0])?
        // Gauges are set just before they are rendered; a gauge of a component that has ended is not set any more and
        // disappears.
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_KEPT))
        .install_recorder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_and_dispatcher_depend_on_store_and_lifecycle() {
        let config = Config::new("unused".into(), "127.0.0.1:0".parse().unwrap());
        let drawn = container(config).check().unwrap().to_dot();
        let number = |part: &str| {
            let label = format!(" [label=\"{part}\"]");
            drawn.lines().find_map(|line| line.trim().strip_suffix(&format!("{label};"))).unwrap()
        };
        // Parts stop in reverse order of their dependencies.
        for (needs, needed) in [
            ("ApiState", "Store"),
            ("ApiState", "Lifecycle"),
            ("Dispatcher", "Store"),
            ("Dispatcher", "Outbound"),
            ("Dispatcher", "Lifecycle"),
            ("ApiKeys", "Store"),
        ] {
            let edge = format!("{} -> {};", number(needs), number(needed));
            assert!(drawn.lines().any(|line| line.trim() == edge), "{needs} without {needed}:\n{drawn}");
        }
    }
}
