//! A running relay: start, work, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use motet::App;
use motet::container::Running;
use motet::event::Emitter;
use motet::run::{Outcome, Root};
use motet::task::{CancelToken, Nursery, Reason, ScopeError, scope};
use motet_http::{Readiness, Server};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::api::{self, ApiKeys, ApiState};
use crate::clock::Clock;
use crate::config::{AutoDisable, Config};
use crate::dispatch::{Dispatcher, DrainReport};
use crate::error::{RunError, StartError};
use crate::lifecycle::Lifecycle;
use crate::parts::{self, HTTP_GRACE, STORE_CLOSE, part};
use crate::store::{self, Store, StoreOptions};

/// The phases of the shutdown.
const DELIVERIES: &str = "deliveries";
const HTTP: &str = "http";
const STORE: &str = "store";

/// What is cut off at the end of its grace gets this long to be dropped.
const HAND_BACK: Duration = Duration::from_secs(1);

/// A relay that has opened its store and listens, and is about to run.
#[derive(Debug)]
pub struct Relay {
    running: Running,
    api_keys: Arc<ApiKeys>,
    lifecycle: Arc<Lifecycle>,
    listener: TcpListener,
    address: SocketAddr,
    shutdown_grace: Duration,
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
        for net in &config.allow_net {
            tracing::warn!(%net, "deliveries to this network are allowed beyond the public addresses");
        }
        let (listen, shutdown_grace) = (config.listen, config.shutdown_grace);
        let running = parts::container(config).start(app.in_phase(STORE).scope()).await?;
        let failed = |source| StartError::Listen { address: listen, source: Arc::new(source) };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (api_keys, lifecycle) = (part(&running), part(&running));
        Ok(Self { running, api_keys, lifecycle, listener, address, shutdown_grace })
    }

    /// The address the API listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API key, if this start made it. It is stored, hashed, once relay [serves](Self::serve), and cannot be had
    /// again then: show it before. A start that ends before that leaves it to the next start to make one.
    #[must_use]
    pub fn new_api_key(&self) -> Option<&str> {
        self.api_keys.new_key()
    }

    /// What tells of endpoints, breakers and deliveries, as [`lifecycle`](crate::lifecycle) has it. Listeners that are on
    /// before relay [serves](Self::serve) miss nothing.
    #[must_use]
    pub fn lifecycle(&self) -> &Emitter {
        self.lifecycle.emitter()
    }

    /// Sets up the program that [`Relay::serve`] runs in, with the phases of its shutdown:
    ///
    /// | phase | |
    /// |---|---|
    /// | `deliveries` | intake closes (new events get 503); deliveries under way finish or are handed back |
    /// | `http` | requests under way are answered |
    /// | `store` | the parts end; the log is moved into the database, which is closed |
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
    /// [`RunError::Start`] when a new API key cannot be stored; [`RunError::WriterGone`]; a member's errors go to the
    /// program.
    pub async fn serve<E>(self, app: &Root<E>) -> Result<Infallible, E>
    where
        E: From<RunError> + Send + 'static,
    {
        let Self { running, api_keys, listener, shutdown_grace, .. } = self;
        api_keys.keep_new_key(&part::<Store>(&running)).await.map_err(RunError::Start)?;
        let running = Arc::new(running);
        let (state, parts) = (part::<ApiState>(&running), Arc::clone(&running));
        let (server, readiness) = (part::<Server>(&running), part::<Readiness>(&running));
        let scope = app.in_phase(STORE).scope().clone();
        drop(app.in_phase(HTTP).service_coop("listener", async move |stop: CancelToken| {
            let router = api::router(state, parts, &scope, stop.clone());
            // What is cut off it logs.
            let _served = server.serve(listener, router, stop).await;
        }));
        readiness.set(true);
        let dispatcher = part::<Dispatcher>(&running);
        drop(app.in_phase(DELIVERIES).service_coop("dispatcher", async move |stop: CancelToken| {
            let stopping = async {
                stop.cancelled().await;
                readiness.stop();
                tracing::info!(
                    "stopping: no new events are taken in. Ctrl-C, a second from now or later, stops at once"
                );
            };
            let DrainReport { handed_back } = dispatcher.run(stopping, shutdown_grace).await;
            tracing::info!(handed_back, "deliveries are drained");
        }));
        part::<Store>(&running).writer_gone().await;
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

/// Makes a new API key for the store in `data`, hands it to `show`, and then revokes the keys before it. The relay there
/// must be stopped.
///
/// # Cancel safety
/// Dropped before it is done, the old keys hold, and the new one may hold as well.
///
/// # Errors
/// [`StartError`] as for [`Relay::start`]; [`StartError::NotShown`] when `show` fails: the old keys hold then.
pub async fn rotate_api_key(
    data: &std::path::Path,
    show: impl FnOnce(&str) -> io::Result<()> + Send,
) -> Result<(), StartError> {
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
        let store = Store::open(&options, Clock::new(), n).map_err(StartError::open)?;
        let replaced = ApiKeys::replace(&store, show).await;
        if let Err(error) = store.close().await {
            tracing::warn!(%error, "the last checkpoint failed; the next start replays the log");
        }
        replaced
    });
    rotated.await.map_err(|error| match error {
        ScopeError::Failed { first, .. } => first.error,
        other => StartError::Store(other.to_string()),
    })
}

/// A connection is an open file; the usual soft limit of 1 024 is less than relay may need.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
