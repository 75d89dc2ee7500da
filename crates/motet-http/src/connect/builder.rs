use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
#[cfg(feature = "dns")]
use std::net::SocketAddr;
#[cfg(feature = "dns")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::rt::TokioTimer;
use motet::task::Scope;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

#[cfg(feature = "dns")]
use super::NameSources;
#[cfg(feature = "proxy")]
use super::Proxy;
use super::kept::{IdleEnds, Kept};
use super::{AddressFilter, Connections, Dial, Duplex, Plan, ScopeExecutor, connector};
use crate::Host;
use crate::client::{BoxError, ClientConfigError};

/// The interval of HTTP/2 pings on a connection in use, and the timeout of their answer: all calls of a host share the
/// connection, and would find it dead one after another.
#[cfg(feature = "http2")]
const PING: Duration = Duration::from_secs(10);

/// The smallest limit of a response head that hyper accepts.
const LEAST_HEAD: usize = 8 << 10;

/// The largest response head that hyper reads by default.
const MOST_HEAD: usize = (8 << 10) + (4 << 10) * 100;

/// The maximum number of header fields in lenient mode; a head of 64 KiB seldom has more. hyper has space for 100
/// without an allocation.
const MOST_FIELDS: usize = 512;

/// The versions of HTTP that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Versions {
    /// 1.1, and 2 with hosts that choose it in the TLS handshake.
    #[default]
    Any,
    /// 1.1.
    Http1,
    /// 2, also without TLS, for hosts that are known to speak it.
    #[cfg(feature = "http2")]
    Http2,
}

impl Versions {
    /// Returns `true` if requests may be sent over HTTP/1.1, whose requests have a `Host`.
    pub(crate) fn sends_host(self) -> bool {
        match self {
            Self::Any | Self::Http1 => true,
            #[cfg(feature = "http2")]
            Self::Http2 => false,
        }
    }
}

/// A builder for [`Connections`], created by [`Connections::builder`].
///
/// # Defaults
/// | Setting | Default | Notes |
/// |---|---|---|
/// | timeout of connecting | 5 s | name, TCP and TLS |
/// | idle connections | 30 s, 64 per host, 1 024 in all | shorter than most servers, so that a connection is rarely found closed |
/// | age of a connection | 5 minutes | changes of DNS are followed |
/// | open connections | no limit | see [`max_open`](Self::max_open) |
/// | head of a response | some 400 KiB | HTTP/1.1, interim heads (1xx) included |
/// | addresses dialled | 4 of each family | the first that connects is used |
/// | versions of HTTP | 1.1, and 2 if TLS negotiates it | see [`Versions`] |
#[derive(Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct ConnectionsBuilder {
    scope: Scope,
    connect: Duration,
    idle: Duration,
    max_idle: usize,
    max_idle_in_all: usize,
    max_open: usize,
    max_age: Duration,
    max_head: Option<usize>,
    lenient_heads: bool,
    #[cfg(feature = "dns")]
    names: NameSources,
    pub(crate) versions: Versions,
    filter: Option<AddressFilter>,
    dial: Option<Dial>,
    #[cfg(feature = "proxy")]
    proxy: Option<Proxy>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl ConnectionsBuilder {
    pub(super) fn new(scope: &Scope) -> Self {
        Self {
            scope: scope.clone(),
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            max_idle: 64,
            max_idle_in_all: 1_024,
            max_open: usize::MAX,
            max_age: Duration::from_secs(5 * 60),
            max_head: None,
            lenient_heads: false,
            #[cfg(feature = "dns")]
            names: NameSources::default(),
            versions: Versions::Any,
            filter: None,
            dial: None,
            #[cfg(feature = "proxy")]
            proxy: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets the timeout of connecting: resolving the name, TCP and TLS. It must be above zero; [`Duration::MAX`] means
    /// no limit.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect = timeout;
        self
    }

    /// Closes a connection that was idle for `after`. Zero closes each connection after its response, [`Duration::MAX`]
    /// none.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.idle = after;
        self
    }

    /// Keeps up to `most` idle connections per host.
    pub fn max_idle_per_host(mut self, most: usize) -> Self {
        self.max_idle = most;
        self
    }

    /// Keeps up to `most` idle connections over all hosts. A further one closes the connection that has been idle
    /// longest.
    pub fn max_idle(mut self, most: usize) -> Self {
        self.max_idle_in_all = most;
        self
    }

    /// Limits the open connections to `most`, which must be at least 1. At the limit, idle connections are closed for a
    /// new one; if none is idle, the request fails after a short wait ([`Fault::Local`](super::Fault::Local)).
    ///
    /// Each connection is a descriptor of the process. Idle connections are also closed when the process runs out of
    /// descriptors elsewhere.
    pub fn max_open(mut self, most: usize) -> Self {
        self.max_open = most;
        self
    }

    /// Limits the age of a connection to `age`, plus or minus a tenth, so that the name of a busy host is resolved
    /// again. An HTTP/1.1 connection is closed after its next response, an HTTP/2 connection when it has no requests.
    /// Zero uses each connection once, [`Duration::MAX`] sets no limit.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Accepts irregular heads of HTTP/1.1: folded fields, blanks before a colon, and invalid fields, up to 512 fields.
    /// Fields about the length of the body must be valid all the same.
    pub fn lenient_heads(mut self) -> Self {
        self.lenient_heads = true;
        self
    }

    /// Sets the file with the name servers, in place of `/etc/resolv.conf`. It is read again when it has changed.
    #[cfg(feature = "dns")]
    pub fn resolv_conf(mut self, file: impl Into<PathBuf>) -> Self {
        self.names.resolv_conf = file.into();
        self
    }

    /// Sets the file with host names and addresses, in place of `/etc/hosts`. It is read again when it has changed.
    #[cfg(feature = "dns")]
    pub fn hosts_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.names.hosts = file.into();
        self
    }

    /// Sets the name servers, in place of those of `/etc/resolv.conf`.
    #[cfg(feature = "dns")]
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.names.servers = Some(servers.into_iter().collect());
        self
    }

    /// Limits the head of a response of HTTP/1.1 to this number of bytes, interim heads (1xx) included. It must be at
    /// least 8 KiB.
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.max_head = Some(bytes);
        self
    }

    /// Sets the versions of HTTP.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Connects only to addresses that the closure accepts. The closure checks each address after name resolution; the
    /// error that it returns is the source of the error of the request.
    pub fn connect_only_to<E: Into<BoxError>>(
        mut self,
        filter: impl Fn(IpAddr) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.filter = Some(Arc::new(move |address| filter(address).map_err(Into::into)));
        self
    }

    /// Connects by `dial`, in place of resolving the name and dialling TCP: through a tunnel, over a Unix socket, or to
    /// a server in memory in a test in virtual time.
    ///
    /// It is called for each connection, within the timeout of connecting. For an `https` URL, TLS runs on the returned
    /// stream. Its error becomes a [`SendError::Connect`](super::SendError::Connect).
    pub fn connect_by<F, Fut, S>(mut self, dial: F) -> Self
    where
        F: Fn(Host) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.dial = Some(Arc::new(move |host| {
            let dialled = dial(host);
            Box::pin(async move { dialled.await.map(|stream| Box::new(stream) as Box<dyn Duplex>) })
        }));
        self
    }

    /// Sends requests through `proxy`. By default, no proxy is used, also if the environment names one: see
    /// [`Proxy::from_env`].
    ///
    /// The proxy resolves the names of hosts. Within the timeout of connecting, it is dialled as a host is, also by
    /// [`connect_by`](Self::connect_by).
    #[cfg(feature = "proxy")]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Sets the configuration of TLS, in place of the certificates of the system, which are read once per process. It must
    /// not name protocols (ALPN): the versions do.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.tls = Some(config.into());
        self
    }

    /// Creates the connections. None is opened yet.
    ///
    /// # Errors
    /// [`ClientConfigError`]: protocols in the configuration of TLS, a head of less than 8 KiB, a limit of no connections,
    /// a timeout of zero, or an address filter together with `connect_by` or a proxy.
    pub fn build(self) -> Result<Connections, ClientConfigError> {
        if self.dial.is_some() && self.filter.is_some() {
            return Err(ClientConfigError::new(
                "an address filter has no effect with `connect_by`: remove one of them",
            ));
        }
        #[cfg(feature = "proxy")]
        if self.proxy.is_some() && self.filter.is_some() {
            return Err(ClientConfigError::new(
                "an address filter checks only the address of a proxy, which connects to any host: remove one of them",
            ));
        }
        #[cfg(feature = "tls")]
        if self.tls.as_ref().is_some_and(|tls| !tls.alpn_protocols.is_empty()) {
            return Err(ClientConfigError::new(
                "the configuration of TLS names protocols (ALPN): leave them empty",
            ));
        }
        let mut http = legacy::Client::builder(ScopeExecutor::new(self.scope.clone()));
        // Beyond the range of the clock: never. hyper-util would panic on it, in a task of the scope.
        let idle = Some(self.idle.max(Duration::from_nanos(1)))
            .filter(|idle| Instant::now().checked_add(*idle).is_some());
        http.pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle)
            .pool_max_idle_per_host(self.max_idle)
            .timer(TokioTimer::new());
        #[cfg(feature = "http2")]
        http.http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_only(self.versions == Versions::Http2);
        if self.max_open == 0 {
            return Err(ClientConfigError::new("`max_open` is 0; it must be at least 1"));
        }
        if self.connect.is_zero() {
            return Err(ClientConfigError::new("`connect_timeout` is zero; no connection could be opened"));
        }
        if self.lenient_heads {
            http.http1_allow_obsolete_multiline_headers_in_responses(true)
                .http1_allow_spaces_after_header_name_in_responses(true)
                .http1_ignore_invalid_headers_in_responses(true)
                .http1_max_headers(MOST_FIELDS);
        }
        if let Some(bytes) = self.max_head {
            if bytes < LEAST_HEAD {
                return Err(ClientConfigError::new("`max_head` is below 8 KiB; it must be at least that"));
            }
            http.http1_max_buf_size(bytes);
        }
        let kept = Kept::new(self.max_idle_in_all, self.max_open, self.max_age);
        let connector = connector(Plan {
            filter: self.filter,
            dial: self.dial,
            #[cfg(feature = "dns")]
            names: self.names,
            #[cfg(feature = "tls")]
            tls: self.tls,
            versions: self.versions,
            #[cfg(feature = "proxy")]
            proxy: self.proxy.clone(),
            within: self.connect,
            most_head: self.max_head.unwrap_or(MOST_HEAD),
            kept: Arc::clone(&kept),
        });
        Ok(Connections {
            _idle: Arc::new(IdleEnds(kept)),
            http: http.build(connector),
            #[cfg(feature = "proxy")]
            proxy: self.proxy.filter(|_| self.versions.sends_host()),
            scope: self.scope,
        })
    }
}

impl fmt::Debug for ConnectionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionsBuilder")
            .field("connect", &self.connect)
            .field("idle", &self.idle)
            .field("versions", &self.versions)
            .finish_non_exhaustive()
    }
}
