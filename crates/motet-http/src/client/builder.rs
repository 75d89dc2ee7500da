use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use motet::middleware::Chain;
use motet::observe::Stats;
use motet::resilience::{Bulkhead, CircuitBreaker, CircuitBreakers, DynPipeline, Retry};
use motet::task::{Name, Scope};
use thiserror::Error as ThisError;
use tokio::io::{AsyncRead, AsyncWrite};

use super::core::{Core, Times};
use super::defaults::Defaults;
use super::host::{Host, Places};
use super::target::Base;
use super::{ApiClient, BoxError, Error, Request, Response};
use crate::connect::{Connections, ConnectionsBuilder, Versions};

/// Sets an [`ApiClient`] up: from [`ApiClient::builder`].
///
/// # Defaults
/// | | | |
/// |---|---|---|
/// | base URL | none | requests then have absolute URLs |
/// | time of a call | 30 s | to the end of the answer's body |
/// | of connecting | 5 s | name, TCP and TLS |
/// | of an attempt, to the answer's headers | 10 s | so that a host that hangs leaves time for another attempt |
/// | of a wait for more of a body | 10 s | |
/// | retry | [`Retry::new`]: 3 attempts within a budget | of what may be repeated: see [`ByStatus`](super::ByStatus) |
/// | patience | 20 s | a host that asks for longer is not tried again |
/// | breakers | one for each of the last 1024 hosts | [`CircuitBreaker::builder`] |
/// | calls under way to a host | 64, and 1024 that wait | what more HTTP/1.1 connections gain is little |
/// | connections kept while idle | 30 s | shorter than most servers have it, so that one is rarely found closed |
/// | body of an answer that is read whole | 16 MiB | |
/// | redirects followed | none | |
/// | versions of HTTP | 1.1, and 2 where TLS agrees on it | |
#[must_use = "a builder does nothing until it is built"]
pub struct ApiClientBuilder {
    scope: Scope,
    name: Option<Name>,
    base: Option<String>,
    headers: HeaderMap,
    problem: Option<BoxError>,
    connections: ConnectionsBuilder,
    times: Times,
    retry: Retry,
    pipeline: Option<DynPipeline<Response, Error>>,
    middleware: Option<Chain<Request, Result<Response, Error>>>,
    breakers: Breakers,
    in_flight: (usize, usize),
    max_body: usize,
    redirects: u32,
}

enum Breakers {
    Default,
    Given(CircuitBreakers<Host>),
    None,
}

/// A client cannot be made.
#[derive(Debug, ThisError)]
#[error("the client cannot be made")]
pub struct InvalidClient(#[source] BoxError);

impl InvalidClient {
    pub(crate) fn new(why: impl Into<BoxError>) -> Self {
        Self(why.into())
    }
}

impl ApiClientBuilder {
    pub(super) fn new(scope: &Scope) -> Self {
        let agent = HeaderValue::from_static(concat!("motet-http/", env!("CARGO_PKG_VERSION")));
        let ten = Some(Duration::from_secs(10));
        Self {
            scope: scope.clone(),
            name: None,
            base: None,
            headers: HeaderMap::from_iter([(USER_AGENT, agent)]),
            problem: None,
            connections: Connections::builder(scope),
            times: Times {
                total: Some(Duration::from_secs(30)),
                head: ten,
                read: ten,
                patience: Duration::from_secs(20),
            },
            retry: Retry::new(),
            pipeline: None,
            middleware: None,
            breakers: Breakers::Default,
            in_flight: (64, 1024),
            max_body: 16 << 20,
            redirects: 0,
        }
    }

    /// Names the client, and shows it in the snapshots of the scope.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Has the paths of requests be below this URL.
    pub fn base_url(mut self, url: &str) -> Self {
        self.base = Some(url.to_owned());
        self
    }

    /// Sends a header with every request that has none of that name.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName, Error: Into<BoxError>>,
        V: TryInto<HeaderValue, Error: Into<BoxError>>,
    {
        match (name.try_into().map_err(Into::into), value.try_into().map_err(Into::into)) {
            (Ok(name), Ok(value)) => drop(self.headers.insert(name, value)),
            (Err(error), _) | (_, Err(error)) => self.problem = self.problem.or(Some(error)),
        }
        self
    }

    /// Limits the time of a call: of its attempts, the waits between them, and the body of its answer. More than zero;
    /// [`Duration::MAX`] is no limit, here and below.
    pub fn timeout(mut self, within: Duration) -> Self {
        self.times.total = Some(within);
        self
    }

    /// Has no limit for the time of a call as a whole; those of its parts stay.
    pub fn without_timeout(mut self) -> Self {
        self.times.total = None;
        self
    }

    /// Limits the time of connecting: resolving the name, TCP and TLS. More than zero.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.connections = self.connections.connect_timeout(within);
        self
    }

    /// Limits the time of an attempt from when it has its place for the host to the end of the answer's headers.
    /// More than zero.
    pub fn head_timeout(mut self, within: Duration) -> Self {
        self.times.head = Some(within);
        self
    }

    /// Limits the time of a wait for more of a body. More than zero.
    pub fn read_timeout(mut self, within: Duration) -> Self {
        self.times.read = Some(within);
        self
    }

    /// Retries like this. How long it follows hints is replaced by the [patience](Self::patience), and its timeout by
    /// that of the call.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Makes one attempt for each call.
    pub fn without_retry(self) -> Self {
        self.retry(Retry::new().attempts(1).without_budget())
    }

    /// Waits for as long as a host asks for with `Retry-After`, if it is no longer than this; otherwise the call ends
    /// with what the host said. Zero waits for no host, [`Duration::MAX`] for each.
    pub fn patience(mut self, longest: Duration) -> Self {
        self.times.patience = longest;
        self
    }

    /// Runs the attempts of each call through these policies, in place of the retry.
    ///
    /// The breaker of the host and the places for it stay inside, where they see each attempt. To retry what the client
    /// would, classify with [`ByStatus`](super::ByStatus).
    pub fn pipeline(mut self, pipeline: DynPipeline<Response, Error>) -> Self {
        self.pipeline = Some(pipeline);
        self
    }

    /// Has every call go through this chain first, within the time of the call: its parts see the request before the
    /// first attempt and the answer after the last one, redirects included.
    ///
    /// A part that runs what is inside again makes another call of it, with attempts of its own.
    ///
    /// # Examples
    /// ```
    /// use motet::middleware::{Chain, Next};
    /// use motet::task::{Nursery, scope};
    /// use motet_http::{ApiClient, Error, Request, Response};
    ///
    /// type Answer = Result<Response, Error>;
    ///
    /// async fn sign(mut request: Request, next: Next<Request, Answer>) -> Answer {
    ///     let length = request.body().as_bytes().map_or(0, |body| body.len());
    ///     request.headers_mut().insert("x-signature", length.into());
    ///     next.run(request).await
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # scope(async |n: &Nursery| {
    /// let client = ApiClient::builder(n).middleware(Chain::new().with(sign)).build().unwrap();
    /// # Ok(()) }).await.unwrap();
    /// # });
    /// ```
    pub fn middleware(mut self, chain: Chain<Request, Result<Response, Error>>) -> Self {
        self.middleware = Some(chain);
        self
    }

    /// Takes the breakers of the hosts from here: with settings of your own, or shared with other clients.
    pub fn breakers(mut self, breakers: CircuitBreakers<Host>) -> Self {
        self.breakers = Breakers::Given(breakers);
        self
    }

    /// Has no breakers.
    pub fn without_breakers(mut self) -> Self {
        self.breakers = Breakers::None;
        self
    }

    /// Has so many attempts under way to a host, answers that are still being read included, and so many more wait, in
    /// order, for as long as the call has time.
    pub fn max_in_flight(mut self, each_host: usize, waiting: usize) -> Self {
        self.in_flight = (each_host, waiting);
        self
    }

    /// Closes a connection that was idle for `after`: zero closes each after its answer, [`Duration::MAX`] none.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.connections = self.connections.idle_timeout(after);
        self
    }

    /// Reads bodies whole up to so many bytes. What is read piece by piece has no such limit.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Follows up to so many redirects.
    ///
    /// To another host go the headers that say what is sent and wanted (`Accept*`, `Content-*`, `Range`, `User-Agent`), and
    /// none else: a key may be in a header of any name. No redirect is followed from `https` to `http`. A request that a
    /// client only sends because an answer says so can reach what the client can and the answerer cannot: see
    /// [`connect_only_to`](Self::connect_only_to).
    pub fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    /// Speaks these versions of HTTP.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.connections = self.connections.versions(versions);
        self
    }

    /// Connects to those addresses only that this lets through: the addresses that are dialled, whatever names lead to
    /// them. What it says to the others is the cause of the error.
    pub fn connect_only_to<E: Into<BoxError>>(
        mut self,
        filter: impl Fn(IpAddr) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.connections = self.connections.connect_only_to(filter);
        self
    }

    /// Connects by this, in place of resolving the name and dialling TCP: through a tunnel, over a socket of the system, or,
    /// in a test in virtual time, to a server in memory.
    ///
    /// It is called for each connection, within the time of connecting. TLS is spoken over what it gives, where the URL
    /// says so. What it fails with is an [`ErrorKind::Connect`](super::ErrorKind::Connect).
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, Scope, scope};
    /// use motet_http::ApiClient;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let servers = Scope::clone(n);
    ///     let dial = move |_host| {
    ///         let (ours, mut theirs) = duplex(1024);
    ///         let served = servers.service("server", async move {
    ///             let mut request = [0; 1024];
    ///             while theirs.read(&mut request).await.is_ok_and(|length| length > 0) {
    ///                 theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n42").await.unwrap();
    ///             }
    ///         });
    ///         async move { served.map(|_| ours).map_err(std::io::Error::other) }
    ///     };
    ///     let client = ApiClient::builder(n).base_url("http://memory").connect_by(dial).build().unwrap();
    ///     assert_eq!(client.get("/").fetch_json::<u32>().await.unwrap(), 42);
    ///     Ok(())
    /// })
    /// .await
    /// # .unwrap();});
    /// ```
    pub fn connect_by<F, Fut, S>(mut self, dial: F) -> Self
    where
        F: Fn(Host) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.connections = self.connections.connect_by(dial);
        self
    }

    /// Trusts, and proves, by this configuration of TLS, in place of the certificates of the system. It is to name no
    /// protocols (ALPN): the versions do.
    pub fn tls(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.connections = self.connections.tls(config);
        self
    }

    /// Makes the client. Nothing is connected yet.
    ///
    /// # Errors
    /// [`InvalidClient`]: a base URL that is none, a header that is none, no places, a limit of time that is zero,
    /// protocols in the configuration of TLS, a filter for addresses where none are dialled.
    pub fn build(self) -> Result<ApiClient, InvalidClient> {
        if let Some(problem) = self.problem {
            return Err(InvalidClient(problem));
        }
        self.times.check()?;
        let base = self.base.as_deref().map(Base::parse).transpose();
        let base = base.map_err(|error| InvalidClient(error.into()))?;
        let (places, waiting) = self.in_flight;
        let each = Bulkhead::builder(places).queue(waiting, Duration::MAX);
        drop(each.clone().build().map_err(|error| InvalidClient(error.into()))?);
        let no_breaker = CircuitBreaker::builder().disabled().build();
        let no_breaker = no_breaker.map_err(|error| InvalidClient(error.into()))?;
        let core = Arc::new(Core {
            defaults: Defaults::new(self.headers, base.as_ref(), self.connections.versions),
            connections: self.connections.max_idle_per_host(places).build()?,
            base,
            retry: self.retry.follow_hints_for(self.times.patience),
            pipeline: self.pipeline,
            breakers: match self.breakers {
                Breakers::Default => Some(breakers()),
                Breakers::Given(breakers) => Some(breakers),
                Breakers::None => None,
            },
            no_breaker,
            places: Places::new(each),
            times: self.times,
            max_body: self.max_body,
            redirects: self.redirects,
            shown: OnceLock::new(),
        });
        if let Some(name) = self.name {
            show(&core, &self.scope, name);
        }
        let chain = self.middleware.map(|chain| {
            let core = Arc::clone(&core);
            chain.to(move |mut request| {
                let core = Arc::clone(&core);
                async move { core.call(&mut request).await }
            })
        });
        Ok(ApiClient { core, chain })
    }
}

fn breakers() -> CircuitBreakers<Host> {
    const MOST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
    CircuitBreakers::new(MOST, |_| CircuitBreaker::default())
}

fn show(core: &Arc<Core>, scope: &Scope, name: Name) {
    let weak = Arc::downgrade(core);
    let shown = scope.register("api client", name, move || {
        weak.upgrade().map_or_else(Stats::new, |core| {
            let stats = core.stats();
            let shown = Stats::new().count("in_flight", stats.in_flight as u64);
            let shown = shown.count("waiting", stats.waiting as u64);
            let breakers = core.breakers.as_ref();
            shown.count("hosts", breakers.map_or(0, CircuitBreakers::len) as u64)
        })
    });
    // It is new, so nothing is there yet.
    let _ = core.shown.set(shown);
}

impl fmt::Debug for ApiClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClientBuilder")
            .field("base", &self.base)
            .field("times", &self.times)
            .field("in_flight", &self.in_flight)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
