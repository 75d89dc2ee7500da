use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::rt::TokioTimer;
use motet::task::Scope;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{AddressFilter, Connections, Dial, Duplex, Kept, NameSources, Plan, ScopeExecutor, connector};
use crate::Host;
use crate::client::{BoxError, InvalidClient};

/// A connection of HTTP/2 that is in use is asked so often whether it is still there, and given up after as long without
/// an answer: all calls of a host share it, and would find it dead one after another.
const PING: Duration = Duration::from_secs(10);

/// What hyper needs for the head of an answer.
const LEAST_HEAD: usize = 8 << 10;

/// What hyper reads a head into at most, unless told otherwise.
const MOST_HEAD: usize = (8 << 10) + (4 << 10) * 100;

/// The most fields of a head, where heads are lenient; a head of 64 KiB seldom has more. hyper has space for 100 without an allocation.
const MOST_FIELDS: usize = 512;

/// Which versions of HTTP a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Versions {
    /// 1.1, and 2 with hosts that choose it in the TLS handshake.
    #[default]
    Any,
    /// 1.1.
    Http1,
    /// 2, also without TLS: with hosts that are known to speak it.
    Http2,
}

/// Sets [`Connections`] up: from [`Connections::builder`].
///
/// # Defaults
/// | | | |
/// |---|---|---|
/// | time of connecting | 5 s | name, TCP and TLS |
/// | kept while idle | 30 s, 64 to a host, 1 024 in all | shorter than most servers have it, so that one is rarely found closed |
/// | kept at all | 5 minutes | so that changes of DNS are followed |
/// | open in all | without a limit | |
/// | head of an answer | some 400 KiB | of HTTP/1.1, with the interim heads (1xx) before it |
/// | addresses dialled | 4 of each family | |
/// | versions of HTTP | 1.1, and 2 where TLS agrees on it | |
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
    names: NameSources,
    pub(crate) versions: Versions,
    filter: Option<AddressFilter>,
    dial: Option<Dial>,
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
            names: NameSources::default(),
            versions: Versions::Any,
            filter: None,
            dial: None,
            tls: None,
        }
    }

    /// Limits the time of connecting: resolving the name, TCP and TLS. More than zero; [`Duration::MAX`] is no limit.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.connect = within;
        self
    }

    /// Closes a connection that was idle for `after`: zero closes each after its answer, [`Duration::MAX`] none.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.idle = after;
        self
    }

    /// Keeps up to so many connections to a host while they are idle.
    pub fn max_idle_per_host(mut self, most: usize) -> Self {
        self.max_idle = most;
        self
    }

    /// Keeps up to `most` connections while they are idle, whatever hosts they are to. One more closes the one that has
    /// been idle longest.
    pub fn max_idle(mut self, most: usize) -> Self {
        self.max_idle_in_all = most;
        self
    }

    /// Opens up to `most` connections at once. Where one more is wanted, idle connections are closed for it; without any,
    /// the request fails after a moment ([`Fault::Local`](super::Fault::Local)). At least one.
    ///
    /// Each connection is a descriptor of the process. Descriptors that run out elsewhere close idle connections, too.
    pub fn max_open(mut self, most: usize) -> Self {
        self.max_open = most;
        self
    }

    /// Closes a connection of HTTP/1.1 that is older than `age`, a tenth more or less, at the end of its next answer, so that
    /// a host that is in use all the time is resolved anew now and then. One of HTTP/2 when no request is on it. Zero uses each connection once, [`Duration::MAX`] without end.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Reads heads of HTTP/1.1 that are odd: folded fields, blanks before a colon, fields that are none, up to 512 of
    /// them. The fields that say how long the body is have to be right all the same.
    pub fn lenient_heads(mut self) -> Self {
        self.lenient_heads = true;
        self
    }

    /// Reads the name servers from this file, in place of `/etc/resolv.conf`. It is read again when it has changed.
    pub fn resolv_conf(mut self, file: impl Into<PathBuf>) -> Self {
        self.names.resolv_conf = file.into();
        self
    }

    /// Reads names and their addresses from this file, in place of `/etc/hosts`. It is read again when it has changed.
    pub fn hosts_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.names.hosts = file.into();
        self
    }

    /// Asks these name servers, in place of those of `/etc/resolv.conf`.
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.names.servers = Some(servers.into_iter().collect());
        self
    }

    /// Gives up an answer of HTTP/1.1 whose head has more bytes than this, the interim heads (1xx) before it included; at
    /// least 8 KiB.
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.max_head = Some(bytes);
        self
    }

    /// Speaks these versions of HTTP.
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// Connects to those addresses only that this lets through: the addresses that are dialled, whatever names lead to
    /// them. What it says to the others is the cause of the error.
    pub fn connect_only_to<E: Into<BoxError>>(
        mut self,
        filter: impl Fn(IpAddr) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.filter = Some(Arc::new(move |address| filter(address).map_err(Into::into)));
        self
    }

    /// Connects by this, in place of resolving the name and dialling TCP: through a tunnel, over a socket of the system, or,
    /// in a test in virtual time, to a server in memory.
    ///
    /// It is called for each connection, within the time of connecting. TLS is spoken over what it gives, where the URL
    /// says so. What it fails with is an [`SendError::Connect`](super::SendError::Connect).
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

    /// Trusts, and proves, by this configuration of TLS, in place of the certificates of the system. It is to name no
    /// protocols (ALPN): the versions do.
    pub fn tls(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.tls = Some(config.into());
        self
    }

    /// Makes them. Nothing is connected yet.
    ///
    /// # Errors
    /// [`InvalidClient`]: protocols in the configuration of TLS, a head of less than 8 KiB, no connection that may be
    /// open, no time for connecting, a filter for addresses where none are dialled.
    pub fn build(self) -> Result<Connections, InvalidClient> {
        if self.dial.is_some() && self.filter.is_some() {
            return Err(InvalidClient::new("a filter for addresses, where none are dialled"));
        }
        if self.tls.as_ref().is_some_and(|tls| !tls.alpn_protocols.is_empty()) {
            return Err(InvalidClient::new("the configuration of TLS names protocols"));
        }
        let mut http = legacy::Client::builder(ScopeExecutor::new(self.scope.clone()));
        // So far off that the clock cannot tell: never. hyper-util would panic over it, in a task of the scope.
        // With zero, hyper-util would not close idle connections.
        let idle = Some(self.idle.max(Duration::from_nanos(1)))
            .filter(|idle| Instant::now().checked_add(*idle).is_some());
        http.pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle)
            .pool_max_idle_per_host(self.max_idle)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_only(self.versions == Versions::Http2);
        if self.max_open == 0 {
            return Err(InvalidClient::new("no connection may be open"));
        }
        if self.connect.is_zero() {
            return Err(InvalidClient::new("no time for connecting (`connect_timeout`)"));
        }
        if self.lenient_heads {
            http.http1_allow_obsolete_multiline_headers_in_responses(true)
                .http1_allow_spaces_after_header_name_in_responses(true)
                .http1_ignore_invalid_headers_in_responses(true)
                .http1_max_headers(MOST_FIELDS);
        }
        if let Some(bytes) = self.max_head {
            if bytes < LEAST_HEAD {
                return Err(InvalidClient::new("the head of an answer may have less than 8 KiB"));
            }
            http.http1_max_buf_size(bytes);
        }
        let connector = connector(Plan {
            filter: self.filter,
            dial: self.dial,
            names: self.names,
            tls: self.tls,
            versions: self.versions,
            within: self.connect,
            most_head: self.max_head.unwrap_or(MOST_HEAD),
            kept: Kept::new(self.max_idle_in_all, self.max_open, self.max_age),
        });
        Ok(Connections { http: http.build(connector), scope: self.scope })
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
