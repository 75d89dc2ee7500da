//! A running relay: start, work, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use motet::App;
use motet::resilience::InvalidPolicy;
use motet::run::{Outcome, Root};
use motet::task::{CancelToken, Nursery, Policy, Reason, Scope, ScopeError, scope};
use rustix::process::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::{Dispatcher, Drained};
use crate::edge::{self, ApiKey, Edge, Intake, Keys};
use crate::guard::AddressGuard;
use crate::outbound::Outbound;
use crate::store::{self, AutoDisable, OpenError, Store, StoreError, StoreOptions};

/// The phases of the shutdown.
const DELIVERIES: &str = "deliveries";
const HTTP: &str = "http";
const STORE: &str = "store";

/// Requests under way get this long once deliveries are drained.
const HTTP_GRACE: Duration = Duration::from_secs(5);

/// What is cut off at the end of its grace gets this long to be dropped.
const HAND_BACK: Duration = Duration::from_secs(1);

/// The log is at most 64 MiB and a little; a slow disk moves that in this time.
const STORE_CLOSE: Duration = Duration::from_secs(10);

/// Histograms gather samples until they are folded; this bounds how many when nobody scrapes.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// A gauge that was not set for this long is no longer shown.
const GAUGE_KEPT: Duration = Duration::from_secs(30);

/// Seconds, from a commit or a loopback delivery to an attempt's total deadline and beyond.
const BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Why relay did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The store was opened but not usable.
    #[error("cannot use the store: {0}")]
    Store(String),
    /// The operating system gave no random bytes for an API key.
    #[error("no random bytes from the operating system")]
    Random(#[source] getrandom::Error),
    /// Metrics could not be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(String),
}

/// Why a relay did not run until it was asked to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// It did not start.
    #[error("relay did not start")]
    Start(#[from] StartError),
    /// The thread that writes is gone, of a bug that the log names: nothing can be stored any more.
    #[error("the store's writer is gone")]
    WriterGone,
    /// The settings of breakers and rates make no sense.
    #[error("the settings of breakers and rates make no sense")]
    Settings(#[source] InvalidPolicy),
    /// A part of relay panicked, which the log names.
    #[error("a part of relay panicked")]
    Panicked,
    /// Something did not end in its time: see [`Relay::app`].
    #[error("relay did not end in its time")]
    GaveUp,
}

/// A relay that has opened its store and listens, and is about to run.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    store: Store,
    listener: TcpListener,
    address: SocketAddr,
    new_key: Option<ApiKey>,
    edge: Arc<Edge>,
}

impl Relay {
    /// Opens the store and the listening socket, and raises the process's limit of open files. From here on clients
    /// can connect; they are answered once it [serves](Self::serve).
    ///
    /// # Cancel safety
    /// Safe: the store is closed in its phase of the shutdown.
    ///
    /// # Errors
    /// [`StartError`] says what could not be opened and what to do.
    pub async fn start<E: Send + 'static>(config: Config, app: &Root<E>) -> Result<Self, StartError> {
        raise_open_files();
        let options = StoreOptions {
            directory: config.data.clone(),
            max_bytes: config.max_store_bytes,
            longest_delay: config.retry.cap,
            auto_disable: config.auto_disable.clone(),
        };
        let (ready, opened) = oneshot::channel();
        drop(app.in_phase(STORE).service_coop("store", |stop| keep_store(options, ready, stop)));
        // It gives an answer, or panics, which ends the program.
        let store = opened.await.map_err(|_| StartError::Store("it could not be opened".to_owned()))??;
        let listen_failed = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_failed)?;
        let address = listener.local_addr().map_err(listen_failed)?;
        let unusable = |error: StoreError| StartError::Store(error.to_string());
        let mut keys = store.key_hashes().await.map_err(unusable)?;
        let new_key = if keys.is_empty() {
            let key = replace_key(&store).await?;
            keys.push(key.hash());
            Some(key)
        } else {
            None
        };
        for net in &config.allow_net {
            tracing::warn!(%net, "deliveries to this network are allowed beyond the public addresses");
        }
        let edge = Arc::new(Edge {
            store: store.clone(),
            keys: Keys(keys),
            guard: AddressGuard::new(config.allow_net.clone()),
            metrics: metrics_handle()?,
            intake: Intake::default(),
        });
        Ok(Self { config, store, listener, address, new_key, edge })
    }

    /// The address the API listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API key, if this start made it. It is stored hashed and cannot be had again.
    #[must_use]
    pub fn new_api_key(&self) -> Option<&str> {
        self.new_key.as_ref().map(ApiKey::expose)
    }

    /// Sets up the program that [`Relay::serve`] runs in, with the phases of its shutdown:
    ///
    /// | phase | |
    /// |---|---|
    /// | `deliveries` | intake closes (new events get 503); deliveries under way finish or are handed back |
    /// | `http` | requests under way are answered |
    /// | `store` | the log is moved into the database, which is closed |
    pub fn app(config: &Config) -> App {
        let deliveries = config.shutdown_grace.saturating_add(HAND_BACK);
        let http = HTTP_GRACE + HAND_BACK;
        let total = deliveries.saturating_add(http + STORE_CLOSE);
        App::new("relay")
            .phase(DELIVERIES, deliveries)
            .phase(HTTP, http)
            .phase(STORE, STORE_CLOSE)
            .total(total)
    }

    /// Serves and delivers, as members of the phases that [`Relay::app`] sets up, until the program shuts down.
    ///
    /// # Cancel safety
    /// The members go on until their phases are told: this is dropped first in the shutdown.
    ///
    /// # Errors
    /// [`RunError::WriterGone`]; a member's errors go to the program.
    pub async fn serve<E>(self, app: &Root<E>) -> Result<Infallible, E>
    where
        E: From<RunError> + Send + 'static,
    {
        let Self { config, store, listener, edge, .. } = self;
        let outbound =
            Outbound::new(edge.guard.clone(), config.deadlines.clone(), config.in_flight.per_endpoint.get());
        let dispatcher = Dispatcher::new(store.clone(), outbound, &config).map_err(RunError::Settings)?;
        let grace = config.shutdown_grace;
        let router = edge::router(Arc::clone(&edge));
        let http = app.in_phase(HTTP);
        drop(http.service_coop("listener", |stop| edge::serve(listener, router, stop, HTTP_GRACE)));
        drop(http.service("upkeep of metrics", keep_metrics(edge.metrics.clone())));
        drop(app.in_phase(DELIVERIES).service_coop("dispatcher", async move |stop: CancelToken| {
            let stopping = async {
                stop.cancelled().await;
                edge.intake.close();
                tracing::info!("stopping: no new events are taken in. A second signal stops at once");
            };
            let Drained { handed_back } = dispatcher.run(stopping, grace).await;
            tracing::info!(handed_back, "deliveries are drained");
        }));
        store.writer_gone().await;
        Err(RunError::WriterGone.into())
    }

    /// Starts, serves and delivers until `stop` is ready, then ends in the order of [`Relay::app`]. `ready` is called
    /// once clients can connect.
    ///
    /// # When to use
    /// In a runtime that somebody else owns. A program of its own is [`Relay::app`], which handles signals.
    ///
    /// # Cancel safety
    /// Dropping the future stops at once, as a crash would: nothing acknowledged is lost.
    ///
    /// # Errors
    /// [`RunError`]: a part of relay failed, or did not end in its time.
    pub async fn run(
        config: Config,
        ready: impl FnOnce(&Self),
        stop: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let stop = async {
            stop.await;
            Reason::requested("relay was asked to stop")
        };
        let app = Self::app(&config);
        let whole = app.run_until(stop, async |app: &Root<RunError>| {
            let relay = Self::start(config, app).await?;
            ready(&relay);
            relay.serve(app).await
        });
        // On the heap: it holds all of the shutdown, some 20 KiB, and its callers have more of their own.
        let finished = Box::pin(whole).await;
        match finished.outcome {
            Outcome::Failed { first, .. } => Err(first.error),
            Outcome::Panicked(_) => Err(RunError::Panicked),
            Outcome::GaveUp { .. } => Err(RunError::GaveUp),
            _ => Ok(()),
        }
    }
}

/// Makes a new API key for the store in `data` and revokes the ones before. The relay there must be stopped.
///
/// # Cancel safety
/// Dropped before it is done, either the old keys hold or the new one does.
///
/// # Errors
/// [`StartError`] as for [`Relay::start`].
pub async fn rotate_api_key(data: &std::path::Path) -> Result<String, StartError> {
    if !store::exists(data) {
        return Err(StartError::Store(format!(
            "there is none in {}; start relay there first",
            data.display()
        )));
    }
    let options = StoreOptions {
        directory: data.to_owned(),
        max_bytes: None,
        longest_delay: Duration::MAX,
        auto_disable: AutoDisable::default(),
    };
    let rotated = scope(async |n: &Nursery<StartError>| {
        let store = Store::open(&options, Clock::new(), n)?;
        let key = replace_key(&store).await?;
        store.close().await.map_err(|error| StartError::Store(error.to_string()))?;
        Ok(key.expose().to_owned())
    });
    rotated.await.map_err(|error| match error {
        ScopeError::Failed { first, .. } => first.error,
        other => StartError::Store(other.to_string()),
    })
}

/// The room of the store: opens it, and closes it when all who used it have ended.
async fn keep_store(
    options: StoreOptions,
    ready: oneshot::Sender<Result<Store, OpenError>>,
    stop: CancelToken,
) {
    // A read that panics, of a bug, is an error to whoever asked.
    let room = Scope::options().name("store").policy(Policy::Isolate);
    let kept = room.run(async |n: &Nursery| {
        let opened = Store::open(&options, Clock::new(), n);
        let store = opened.as_ref().ok().cloned();
        // Whoever does not wait for it any more is on the way out.
        drop(ready.send(opened));
        let Some(store) = store else { return Ok(()) };
        stop.cancelled().await;
        if let Err(error) = store.close().await {
            tracing::warn!(%error, "the last checkpoint failed; the next start replays the log");
        }
        tracing::info!("stopped");
        Ok(())
    });
    match kept.await {
        Ok(()) | Err(ScopeError::Cancelled { .. }) => {}
        Err(error) => tracing::error!(%error, "the store did not end in order"),
    }
}

async fn replace_key(store: &Store) -> Result<ApiKey, StartError> {
    let key = ApiKey::generate().map_err(StartError::Random)?;
    store.replace_keys(key.hash()).await.map_err(|error| StartError::Store(error.to_string()))?;
    Ok(key)
}

/// The recorder is the process's, made once; several relays in one process share it.
fn metrics_handle() -> Result<PrometheusHandle, StartError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE.get_or_init(|| install_recorder().map_err(|e| e.to_string())).clone().map_err(StartError::Metrics)
}

fn install_recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_jobs".to_owned()), &[1.0, 4.0, 16.0, 64.0, 256.0])?
        // Gauges are set just before they are rendered; those of a deleted endpoint are set no more, and go.
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_KEPT))
        .install_recorder()
}

async fn keep_metrics(handle: PrometheusHandle) {
    let mut ticks = interval(METRICS_UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// A connection is an open file; the usual soft limit of 1 024 is less than relay may need.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
