#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use motet::task::Name;
use thiserror::Error;

use super::{Readiness, Server};

#[derive(Debug, Clone)]
pub(super) struct ServerSettings {
    pub(super) name: Option<Name>,
    pub(super) connections: usize,
    pub(super) per_peer: Option<usize>,
    pub(super) reserved: usize,
    pub(super) headers: Duration,
    pub(super) idle: Duration,
    pub(super) unread: Duration,
    pub(super) notice: Duration,
    pub(super) grace: Duration,
    pub(super) readiness: Option<Readiness>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            name: None,
            connections: 4_096,
            per_peer: None,
            reserved: 0,
            headers: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            unread: Duration::from_secs(30),
            notice: Duration::ZERO,
            grace: Duration::from_secs(20),
            readiness: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// The settings of a [`Server`].
#[derive(Debug, Clone, Default)]
#[must_use = "`build` creates the server"]
pub struct ServerBuilder(ServerSettings);

/// An invalid setting of a [`Server`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{setting}` is {value}; {allowed}")]
pub struct ServerConfigError {
    setting: &'static str,
    value: &'static str,
    allowed: &'static str,
}

impl ServerBuilder {
    /// Sets the name of the server, and shows it in snapshots while it serves.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Sets the maximum number of connections, at least 1.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.0.connections = connections;
        self
    }

    /// Sets the maximum number of connections per address, at least 1; for IPv6 per /64. At this limit, if all of them are
    /// busy, a further connection is closed.
    pub fn max_connections_per_peer(mut self, connections: usize) -> Self {
        self.0.per_peer = Some(connections);
        self
    }

    /// Sets the number of further connections for requests that must always be answered, such as health checks. Their
    /// requests have [`Reserved`](super::Reserved) in their extensions, so that the service can refuse other requests; each
    /// is the last of its connection.
    pub fn reserved_connections(mut self, connections: usize) -> Self {
        self.0.reserved = connections;
        self
    }

    /// Sets the timeout of the headers of a request, which must not be zero: for the first request from the connect, for
    /// others from their first byte.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.0.headers = timeout;
        self
    }

    /// Sets how long a connection may be idle before it is closed. Zero closes each connection after its response.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.0.idle = timeout;
        self
    }

    /// Sets how long a client may read nothing of its response before its connection is closed. It must not be zero. On
    /// Linux, a client that is gone is noticed within the same time.
    pub fn unread_timeout(mut self, timeout: Duration) -> Self {
        self.0.unread = timeout;
        self
    }

    /// Sets the readiness that becomes not ready at the stop.
    pub fn readiness(mut self, readiness: &Readiness) -> Self {
        self.0.readiness = Some(readiness.clone());
        self
    }

    /// Sets how long the server accepts connections after the stop, so that a load balancer can notice. Zero closes the
    /// listener immediately.
    pub fn notice(mut self, time: Duration) -> Self {
        self.0.notice = time;
        self
    }

    /// Sets how long requests in flight may run after the listener is closed. Zero closes their connections immediately.
    pub fn grace(mut self, time: Duration) -> Self {
        self.0.grace = time;
        self
    }

    /// Serves `https` with these certificates. A protocol (ALPN) in the configuration must be `http/1.1`; without one, it
    /// is added.
    ///
    /// The handshake counts toward the timeout of the headers of the first request. Certificates that are renewed while
    /// the server runs come from a [`ResolvesServerCert`](rustls::server::ResolvesServerCert) of the configuration.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<Arc<rustls::ServerConfig>>) -> Self {
        self.0.tls = Some(config.into());
        self
    }

    /// Creates the server.
    ///
    /// # Errors
    /// [`ServerConfigError`] if `max_connections`, `max_connections_per_peer`, `header_timeout` or `unread_timeout` is zero, or
    /// if the configuration of TLS names other protocols than `http/1.1`.
    pub fn build(self) -> Result<Server, ServerConfigError> {
        #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "only TLS is completed"))]
        let Self(mut settings) = self;
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut settings.tls {
            const HTTP1: &[u8] = b"http/1.1";
            if tls.alpn_protocols.iter().any(|protocol| protocol != HTTP1) {
                let (value, allowed) =
                    ("a configuration with other protocols (ALPN)", "it may name `http/1.1`");
                return Err(ServerConfigError { setting: "tls", value, allowed });
            }
            if tls.alpn_protocols.is_empty() {
                Arc::make_mut(tls).alpn_protocols.push(HTTP1.to_vec());
            }
        }
        let counts = [
            ("max_connections", settings.connections),
            ("max_connections_per_peer", settings.per_peer.unwrap_or(1)),
        ];
        if let Some((setting, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(ServerConfigError { setting, value: "0", allowed: "it must be at least 1" });
        }
        if settings.headers.is_zero() {
            let allowed = "no request could be read";
            return Err(ServerConfigError { setting: "header_timeout", value: "zero", allowed });
        }
        if settings.unread.is_zero() {
            let allowed = "no response could be written";
            return Err(ServerConfigError { setting: "unread_timeout", value: "zero", allowed });
        }
        Ok(Server::with(settings))
    }
}
