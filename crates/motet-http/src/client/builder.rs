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

use super::coding::Codings;
use super::core::{Core, Times};
use super::defaults::Defaults;
use super::host::{Host, Places};
use super::target::Base;
use super::{ApiClient, BoxError, Error, Request, Response};
#[cfg(feature = "proxy")]
use crate::connect::Proxy;
use crate::connect::{Connections, ConnectionsBuilder, Versions};

/// A builder for an [`ApiClient`], created by [`ApiClient::builder`].
///
/// # Defaults
/// | Setting | Default | Notes |
/// |---|---|---|
/// | base URL | none | requests have absolute URLs |
/// | timeout of a call | 30 s | to the end of the response body |
/// | timeout of connecting | 5 s | name, TCP and TLS |
/// | timeout of an attempt, to the response headers | 10 s | a host that hangs leaves time for another attempt |
/// | timeout of each read of a body | 10 s | counted from the last chunk |
/// | retry | [`Retry::new`]: 3 attempts within a budget | only requests that may be repeated: see [`ByStatus`](super::ByStatus) |
/// | longest `Retry-After` | 20 s | a host that asks for a longer wait is not retried |
/// | breakers | one for each of the last 1024 hosts | [`CircuitBreaker::builder`] |
/// | calls in flight per host | 64, and 1024 that wait | more HTTP/1.1 connections gain little |
/// | idle timeout of connections | 30 s | shorter than that of most servers, so that a connection is rarely found closed |
/// | response body that is read whole | 16 MiB | streamed bodies have no limit |
/// | redirects | none | none are followed |
/// | codings of response bodies | those whose features are enabled | see [`without_decompression`](Self::without_decompression) |
/// | versions of HTTP | 1.1, and 2 if TLS negotiates it | see [`Versions`] |
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
    decompresses: bool,
}

enum Breakers {
    Default,
    Given(CircuitBreakers<Host>),
    None,
}

/// The settings of a client are invalid. The message has the reason.
#[derive(Debug, ThisError)]
#[error("invalid client settings: {0}")]
pub struct ClientConfigError(BoxError);

impl ClientConfigError {
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
                max_retry_after: Duration::from_secs(20),
            },
            retry: Retry::new(),
            pipeline: None,
            middleware: None,
            breakers: Breakers::Default,
            in_flight: (64, 1024),
            max_body: 16 << 20,
            redirects: 0,
            decompresses: true,
        }
    }

    /// Sets the name of the client, and shows the client in the snapshots of the scope.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the base URL. The paths of requests are relative to it.
    pub fn base_url(mut self, url: &str) -> Self {
        self.base = Some(url.to_owned());
        self
    }

    /// Adds a header to every request that has no header of that name.
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

    /// Sets the timeout of a call: its attempts, the delays between them, and the response body. It must be above zero;
    /// [`Duration::MAX`] means no limit, here and below.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.times.total = Some(timeout);
        self
    }

    /// Removes the timeout of the call. The timeouts of its steps remain.
    pub fn without_timeout(mut self) -> Self {
        self.times.total = None;
        self
    }

    /// Sets the timeout of connecting: resolving the name, TCP and TLS. It must be above zero.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connections = self.connections.connect_timeout(timeout);
        self
    }

    /// Sets the timeout of an attempt, from its slot for the host to the end of the response headers. It must be above zero.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.times.head = Some(timeout);
        self
    }

    /// Sets the timeout of each read of a body. It must be above zero.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.times.read = Some(timeout);
        self
    }

    /// Sets the retry policy. Its limit for hints is replaced by the [longest `Retry-After`](Self::max_retry_after), and its
    /// timeout by the timeout of the call.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Turns retries off: each call makes one attempt.
    #[expect(clippy::missing_panics_doc, reason = "one attempt is a valid number")]
    pub fn without_retry(self) -> Self {
        self.retry(Retry::new().attempts(1).expect("1 is at least 1").without_budget())
    }

    /// Sets the longest `Retry-After` that a call waits for. If a host asks for more, the call returns the response of the
    /// host. Zero never waits, [`Duration::MAX`] always does.
    pub fn max_retry_after(mut self, longest: Duration) -> Self {
        self.times.max_retry_after = longest;
        self
    }

    /// Runs the attempts of each call through `pipeline`, in place of the retry policy.
    ///
    /// The breaker and the slots of the host stay inside of the pipeline, where they see each attempt. Classify with
    /// [`ByStatus`](super::ByStatus) to retry the same responses as the client.
    pub fn pipeline(mut self, pipeline: DynPipeline<Response, Error>) -> Self {
        self.pipeline = Some(pipeline);
        self
    }

    /// Runs every call through `chain`, within the timeout of the call. The parts of the chain see the request before the
    /// first attempt and the response after the last one, redirects included.
    ///
    /// A part that runs the rest of the chain again makes another call, with its own attempts.
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

    /// Sets the breakers of the hosts, for other settings, or to share breakers between clients.
    pub fn breakers(mut self, breakers: CircuitBreakers<Host>) -> Self {
        self.breakers = Breakers::Given(breakers);
        self
    }

    /// Turns breakers off.
    pub fn without_breakers(mut self) -> Self {
        self.breakers = Breakers::None;
        self
    }

    /// Limits the attempts in flight per host to `each_host`, unread responses included. Up to `waiting` further attempts
    /// wait in order, within the timeout of their call.
    pub fn max_in_flight(mut self, each_host: usize, waiting: usize) -> Self {
        self.in_flight = (each_host, waiting);
        self
    }

    /// Closes a connection that was idle for `after`. Zero closes each connection after its response, [`Duration::MAX`] none.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.connections = self.connections.idle_timeout(after);
        self
    }

    /// Limits the size of a body that is read whole, decoded. A streamed body has no such limit.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Follows up to `most` redirects.
    ///
    /// Only the headers `Accept*`, `Content-*`, `Range` and `User-Agent` are sent to another host, since a secret may be in
    /// a header of any name. Redirects from `https` to `http` are not followed. A redirect can make the client send a
    /// request to a host that only the client can reach: see [`connect_only_to`](Self::connect_only_to).
    pub fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    /// Accepts response bodies only as they are: sends no `Accept-Encoding`, and decodes nothing.
    ///
    /// By default, a client accepts the codings whose features of the crate are enabled (`gzip`, `brotli`, `zstd`). It
    /// decodes the body while it is read, and removes `Content-Encoding` and `Content-Length` from the response. Limits
    /// of size count decoded bytes, so a small body that decodes to a huge one is refused at
    /// [`max_body`](Self::max_body); a chunk of a streamed body has at most 32 KiB. A Zstandard body whose window is
    /// larger than 8 MiB is refused.
    ///
    /// The body is returned as it was sent if the request or the client sets another `Accept-Encoding`, if the request
    /// has a `Range`, and if the server uses another coding or several.
    pub fn without_decompression(mut self) -> Self {
        self.decompresses = false;
        self
    }

    /// Sets the versions of HTTP.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.connections = self.connections.versions(versions);
        self
    }

    /// Connects only to addresses that the closure accepts. The closure checks each address after name resolution; the error
    /// that it returns is the source of the error of the call.
    pub fn connect_only_to<E: Into<BoxError>>(
        mut self,
        filter: impl Fn(IpAddr) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.connections = self.connections.connect_only_to(filter);
        self
    }

    /// Connects by `dial`, in place of resolving the name and dialling TCP: through a tunnel, over a Unix socket, or to a
    /// server in memory in a test in virtual time.
    ///
    /// It is called for each connection, within the timeout of connecting. For an `https` URL, TLS runs on the returned
    /// stream. Its error becomes an [`ErrorKind::Connect`](super::ErrorKind::Connect).
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
    ///         let (client, mut server) = duplex(1024);
    ///         let served = servers.service("server", async move {
    ///             let mut request = [0; 1024];
    ///             while server.read(&mut request).await.is_ok_and(|length| length > 0) {
    ///                 server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n42").await.unwrap();
    ///             }
    ///         });
    ///         async move { served.map(|_| client).map_err(std::io::Error::other) }
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

    /// Sends requests through `proxy`. By default, no proxy is used, also if the environment names one: see
    /// [`Proxy::from_env`].
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, scope};
    /// use motet_http::{ApiClient, Proxy};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # scope(async |n: &Nursery| {
    /// let proxy = Proxy::new("http://me:secret@proxy.example:3128").unwrap().except("localhost, 10.0.0.0/8, .internal");
    /// let client = ApiClient::builder(n).proxy(proxy).build().unwrap();
    /// # Ok(()) }).await.unwrap();
    /// # });
    /// ```
    #[cfg(feature = "proxy")]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.connections = self.connections.proxy(proxy);
        self
    }

    /// Sets the configuration of TLS, in place of the certificates of the system, which are read once per process. It must
    /// not name protocols (ALPN): the versions do.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.connections = self.connections.tls(config);
        self
    }

    /// Creates the client. It does not connect yet.
    ///
    /// # Errors
    /// [`ClientConfigError`]: an invalid base URL or header, no slots, a timeout of zero, protocols in the configuration of TLS,
    /// or an address filter together with `connect_by` or a proxy.
    pub fn build(mut self) -> Result<ApiClient, ClientConfigError> {
        if let Some(problem) = self.problem {
            return Err(ClientConfigError(problem));
        }
        self.times.check()?;
        let base = self.base.as_deref().map(Base::parse).transpose();
        let base = base.map_err(|error| ClientConfigError(error.into()))?;
        let (places, waiting) = self.in_flight;
        let each = Bulkhead::builder(places).queue(waiting, Duration::MAX);
        drop(each.clone().build().map_err(|error| ClientConfigError(error.into()))?);
        let no_breaker = CircuitBreaker::builder().disabled().build();
        let no_breaker = no_breaker.map_err(|error| ClientConfigError(error.into()))?;
        let codings = Codings::new(self.decompresses, &mut self.headers);
        let core = Arc::new(Core {
            codings,
            defaults: Defaults::new(self.headers, base.as_ref(), self.connections.versions),
            connections: self.connections.max_idle_per_host(places).build()?,
            base,
            retry: self.retry.follow_hints_for(self.times.max_retry_after),
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
    // The map is new, so nothing is replaced.
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
