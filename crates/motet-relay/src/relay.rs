//! A running relay: start, operation and shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use motet::App;
use motet::container::Running;
use motet::event::Emitter;
use motet::run::{ExitOutcome, Root};
use motet::task::{CancelToken, Reason};
use motet_http::{Readiness, Server};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::api::{self, ApiKeys, ApiState};
use crate::config::Config;
use crate::control::ControlSocket;
use crate::dispatch::{Dispatcher, DrainReport, ReplayDriver};
use crate::error::{RunError, StartError};
use crate::guard::AddressGuard;
use crate::lifecycle::Lifecycle;
use crate::parts::{self, HTTP_GRACE, STORE_CLOSE, part};
use crate::store::Store;

/// The phases of the shutdown.
const DELIVERIES: &str = "deliveries";
const HTTP: &str = "http";
const STORE: &str = "store";

/// Maximum number of connections to the control socket.
const CONTROL_CONNECTIONS: usize = 64;

/// A task that is cut off at the end of its grace has this long to be dropped.
const HAND_BACK: Duration = Duration::from_secs(1);

/// A relay that has opened its store and its listening socket, and does not serve yet.
#[derive(Debug)]
pub struct Relay {
    running: Running,
    api_keys: Arc<ApiKeys>,
    lifecycle: Arc<Lifecycle>,
    listener: TcpListener,
    control: Option<ControlSocket>,
    address: SocketAddr,
    shutdown_grace: Duration,
}

impl Relay {
    /// Opens the store and the listening socket, and raises the process's limit of open files. From now on clients can
    /// connect; relay answers their requests once it [serves](Self::serve).
    ///
    /// # Cancel safety
    /// Safe: the store is closed in its phase of the shutdown.
    ///
    /// # Errors
    /// [`StartError`] reports what could not be opened, and what to do.
    pub async fn start<E: Send + 'static>(config: Config, app: &Root<E>) -> Result<Self, StartError> {
        config.check()?;
        raise_open_files();
        match &config.retention {
            Some(retention) => tracing::info!("retention of finished events: {retention}"),
            None => tracing::info!("no retention: finished events are kept forever"),
        }
        for net in &config.allow_net {
            tracing::warn!(%net, "deliveries to this network are allowed in addition to public addresses");
        }
        let (listen, inherited, shutdown_grace) =
            (config.listen, config.listener.clone(), config.shutdown_grace);
        let data = config.data.clone();
        let running = parts::container(config).start(app.in_phase(STORE).scope()).await?;
        let failed = |source| StartError::Listen { address: listen, source: Arc::new(source) };
        let listener = match inherited {
            Some(inherited) => inherited.try_clone().and_then(from_std),
            None => TcpListener::bind(listen).await,
        };
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // The start of the store has locked the directory.
        let control = ControlSocket::bind(&data);
        let (api_keys, lifecycle) = (part(&running), part(&running));
        Ok(Self { running, api_keys, lifecycle, listener, control, address, shutdown_grace })
    }

    /// The address that the API listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API key, if this start created it. relay stores the hash of the key when it [serves](Self::serve), and
    /// cannot show the key again: show it before. If relay ends earlier, the next start creates a new key.
    #[must_use]
    pub fn new_api_key(&self) -> Option<&str> {
        self.api_keys.new_key()
    }

    /// Returns a handle that changes settings while relay runs.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader { guard: part(&self.running), store: part(&self.running) }
    }

    /// The emitter of the [`lifecycle`](crate::lifecycle) events of endpoints, breakers and deliveries. A listener
    /// that is added before relay [serves](Self::serve) misses no event.
    #[must_use]
    pub fn lifecycle(&self) -> &Emitter {
        self.lifecycle.emitter()
    }

    /// Creates the program that [`Relay::serve`] runs in, with the phases of its shutdown:
    ///
    /// | Phase | In this phase |
    /// |---|---|
    /// | `deliveries` | new events are refused with 503; deliveries in flight finish, or are due again at the next start |
    /// | `http` | requests in flight are answered |
    /// | `store` | the parts stop; the log is moved into the database, and the database is closed |
    pub fn app(config: &Config) -> App {
        let deliveries = config.shutdown_grace.saturating_add(HAND_BACK);
        let http = HTTP_GRACE + HAND_BACK;
        let total = deliveries.saturating_add(http + STORE_CLOSE);
        App::new()
            .name("relay")
            .phase(DELIVERIES, deliveries)
            .phase(HTTP, http)
            .phase(STORE, STORE_CLOSE)
            .total(total)
    }

    /// Serves and delivers until the program shuts down. The listener and the dispatcher are members of the phases
    /// that [`Relay::app`] creates.
    ///
    /// # Cancel safety
    /// Dropping the future stops nothing: the members go on until their phases end. The shutdown drops this future
    /// first.
    ///
    /// # Errors
    /// [`RunError::Start`] if a new API key cannot be stored; [`RunError::WriterGone`]. The errors of a member go to
    /// the program.
    pub async fn serve<E>(self, app: &Root<E>) -> Result<Infallible, E>
    where
        E: From<RunError> + Send + 'static,
    {
        let Self { running, api_keys, listener, control, shutdown_grace, .. } = self;
        api_keys.keep_new_key(&part::<Store>(&running)).await.map_err(RunError::Start)?;
        let running = Arc::new(running);
        let (state, parts) = (part::<ApiState>(&running), Arc::clone(&running));
        let (server, readiness) = (part::<Server>(&running), part::<Readiness>(&running));
        let scope = app.in_phase(STORE).scope().clone();
        app.in_phase(HTTP).service_coop("listeners", async move |stop: CancelToken| {
            let router = api::router(state, parts, &scope, stop.clone());
            let (owner, stop_owner) = (api::for_owner(router.clone()), stop.clone());
            let control = async {
                if let Some(control) = control {
                    let _served = control_server().serve(control, owner, stop_owner).await;
                }
            };
            // The servers log the requests that they cut off.
            let _served = tokio::join!(server.serve(listener, router, stop), control);
        });
        readiness.set(true);
        let dispatcher = part::<Dispatcher>(&running);
        app.in_phase(DELIVERIES).service_coop("dispatcher", async move |stop: CancelToken| {
            let stopping = async {
                stop.cancelled().await;
                readiness.stop();
                tracing::info!(
                    "stopping: new events are refused. Press Ctrl-C again after one second to stop at once"
                );
            };
            let DrainReport { handed_back } = dispatcher.run(stopping, shutdown_grace).await;
            tracing::info!(handed_back, "the dispatcher has stopped");
        });
        let replays = part::<ReplayDriver>(&running);
        app.in_phase(DELIVERIES).service("replays", async move { replays.run().await });
        part::<Store>(&running).writer_gone().await;
        Err(RunError::WriterGone.into())
    }

    /// Starts, serves and delivers until `stop` is ready, then shuts down in the phases of [`Relay::app`]. `ready` is
    /// called once clients can connect.
    ///
    /// # When to use
    /// In a runtime that belongs to another program. A program of its own uses [`Relay::app`], which handles signals.
    ///
    /// # Cancel safety
    /// Dropping the future stops relay at once, like a crash: nothing acknowledged is lost.
    ///
    /// # Errors
    /// [`RunError`]: a part of relay failed, or the shutdown took too long.
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
        // On the heap: the future contains the whole shutdown, about 20 KiB, and is part of the futures of its
        // callers.
        let finished = Box::pin(whole).await;
        match finished.outcome {
            ExitOutcome::Failed { first, .. } => Err(first.error),
            ExitOutcome::Panicked(_) => Err(RunError::Panicked),
            ExitOutcome::GaveUp { .. } => Err(RunError::GaveUp),
            ExitOutcome::DuplicatePhase(phase) => unreachable!("relay declares the phase `{phase}` once"),
            _ => Ok(()),
        }
    }
}

/// Changes those settings of a running relay that need no restart.
#[derive(Debug, Clone)]
pub struct Reloader {
    guard: Arc<AddressGuard>,
    store: Arc<Store>,
}

impl Reloader {
    /// The settings that [`reload`](Self::reload) changes, by the names of their options.
    pub(crate) const SETTINGS: [&str; 8] = [
        "allow_net",
        "tenant_events_per_second",
        "tenant_events_burst",
        "tenant_events_per_day",
        "tenant_backlog_max",
        "tenant_endpoints_max",
        "tenant_event_bytes_max",
        "max_store_bytes",
    ];

    /// Changes the settings that need no restart to those of `config`: the allowed networks, the limits of tenants that
    /// have none of their own, and the maximum size of the store.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, some of the settings may have changed.
    ///
    /// # Errors
    /// [`StartError::Store`]: relay shuts down.
    pub async fn reload(&self, config: &Config) -> Result<(), StartError> {
        self.guard.set_allowed(config.allow_net.clone());
        let Config { tenant_quotas, max_store_bytes, .. } = config;
        self.store.set_limits(tenant_quotas.clone(), *max_store_bytes).await.map_err(StartError::store)
    }
}

fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The server of the control socket, so that commands reach a relay whose connections are all in use.
fn control_server() -> Server {
    let server = Server::builder().name("control socket").grace(HTTP_GRACE);
    server.max_connections(CONTROL_CONNECTIONS).build().expect("these settings are valid")
}

/// Raises the limit of open files. A connection is an open file, and the usual soft limit of 1 024 can be too low for
/// relay.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
