//! Name resolution without blocking threads.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use motet::task::{Either, race, timeout};
use tokio::time::Instant;

use super::ConnectError;
use crate::Host;

/// The shortest interval between checks for changed files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After the addresses of one family have arrived, the wait for the other family (RFC 8305, 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// The timeout of one query, before it is repeated.
const QUERY: Duration = Duration::from_secs(2);

/// The reason why a name does not resolve.
pub(super) type ResolveError = NetError;

/// The error of the socket to a name server, if it is the reason.
pub(super) fn io_error(error: &ResolveError) -> Option<&io::Error> {
    match error {
        NetError::Io(error) => Some(error),
        _ => None,
    }
}

/// The sources of names and name servers.
#[derive(Debug, Clone)]
pub(super) struct NameSources {
    pub(super) resolv_conf: PathBuf,
    pub(super) hosts: PathBuf,
    /// The name servers in place of those of `resolv.conf`.
    pub(super) servers: Option<Vec<SocketAddr>>,
}

impl Default for NameSources {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), servers: None }
    }
}

/// Resolves names as configured in the system, with a cache that follows the time to live of the records.
///
/// The files are read on first use, and again when they have changed: in a container they may be empty at first, and
/// follow its network. Reading them again clears the cache.
#[derive(Debug)]
pub(super) struct Resolver {
    sources: NameSources,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<Current>>,
    looked: Option<Instant>,
    /// When the name servers were last checked, and whether one answered.
    answered: Option<(Instant, bool)>,
}

/// The files as they were read.
struct Current {
    resolver: TokioResolver,
    has_servers: bool,
    stamps: [Stamp; 2],
}

/// The properties that distinguish two versions of a file.
type Stamp = Option<(SystemTime, u64)>;

impl Resolver {
    pub(super) fn new(sources: NameSources) -> Self {
        Self { sources, state: Mutex::default() }
    }

    /// Returns the addresses of both families, IPv6 first.
    ///
    /// Both families are queried concurrently. When one has answered with addresses, the other has a short time left.
    pub(super) async fn lookup(&self, host: &str, within: Duration) -> Result<Vec<IpAddr>, ConnectError> {
        Host::check_name(host).map_err(|_| ConnectError::Name { host: host.to_owned() })?;
        let failed = |source| ConnectError::Resolve { host: host.to_owned(), source };
        let name = Name::from_ascii(host).map_err(|error| failed(error.into()))?;
        let current = self.current().map_err(failed)?;
        let (v6, v4) = {
            let begun = Instant::now();
            let rest = || within.saturating_sub(begun.elapsed());
            let mut v6 = pin!(current.ask(&name, RecordType::AAAA, within));
            let mut v4 = pin!(current.ask(&name, RecordType::A, within));
            let remaining =
                |found: &Answer| if found.is_ok() { RESOLUTION_DELAY.min(rest()) } else { rest() };
            match race(v6.as_mut(), v4.as_mut()).await {
                Either::Left(v6) => {
                    let v4 = timeout(remaining(&v6), v4).await;
                    (v6, v4.unwrap_or(Err(NetError::Timeout)))
                }
                Either::Right(v4) => {
                    let v6 = timeout(remaining(&v4), v6).await;
                    (v6.unwrap_or(Err(NetError::Timeout)), v4)
                }
            }
        };
        match (v6, v4) {
            (Err(v6), Err(v4)) => {
                let error = if is_answer(&v6) { v6 } else { v4 };
                Err(self.failure(host, error, &current, within).await)
            }
            (v6, v4) => Ok([v6, v4].into_iter().filter_map(Result::ok).flatten().collect()),
        }
    }

    /// Decides whether the name failed, or all name servers.
    async fn failure(
        &self,
        host: &str,
        source: NetError,
        current: &Current,
        within: Duration,
    ) -> ConnectError {
        let host = host.to_owned();
        if matches!(source, NetError::Dns(_)) {
            return ConnectError::Resolve { host, source };
        }
        if !current.has_servers {
            return ConnectError::NoNameServer { host, resolv_conf: self.sources.resolv_conf.clone() };
        }
        if is_answer(&source) || self.is_answered(current, within / 3).await {
            ConnectError::Resolve { host, source }
        } else {
            ConnectError::NoNameServerAnswers { host, source }
        }
    }

    /// Queries the root, which every name server knows or refuses. The result is shared with other callers for a
    /// second.
    async fn is_answered(&self, current: &Current, within: Duration) -> bool {
        let known = self.state().answered.filter(|(at, _)| at.elapsed() < LOOK_EVERY);
        if let Some((_, is_answered)) = known {
            return is_answered;
        }
        current.resolver.clear_lookup_cache(Name::root(), RecordType::NS);
        let asked = timeout(within, current.resolver.lookup(Name::root(), RecordType::NS)).await;
        let is_answered = asked.is_ok_and(|asked| asked.map_or_else(|error| is_answer(&error), |_| true));
        self.state().answered = Some((Instant::now(), is_answered));
        is_answered
    }

    fn current(&self) -> Result<Arc<Current>, NetError> {
        let mut state = self.state();
        let is_fresh = state.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY);
        if let Some(current) = state.current.as_ref().filter(|_| is_fresh) {
            return Ok(Arc::clone(current));
        }
        let stamps = [&self.sources.resolv_conf, &self.sources.hosts].map(|path| stamp(path));
        state.looked = Some(Instant::now());
        if let Some(current) = state.current.as_ref().filter(|current| current.stamps == stamps) {
            return Ok(Arc::clone(current));
        }
        let current = Arc::new(Current::read(&self.sources, stamps)?);
        state.current = Some(Arc::clone(&current));
        Ok(current)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of one family; never empty.
type Answer = Result<Vec<IpAddr>, NetError>;

impl Current {
    fn read(sources: &NameSources, stamps: [Stamp; 2]) -> Result<Self, NetError> {
        let (config, mut options) = match &sources.servers {
            Some(servers) => {
                let servers = servers.iter().map(name_server).collect();
                (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
            }
            None => read_servers(&sources.resolv_conf).unwrap_or_else(|error| {
                let file = sources.resolv_conf.display();
                tracing::warn!(%error, %file, "no name servers configured; only names in the hosts file resolve");
                (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default())
            }),
        };
        let has_servers = !config.name_servers().is_empty();
        options.timeout = options.timeout.min(QUERY);
        options.use_hosts_file = ResolveHosts::Never;
        let mut hosts = Hosts::default();
        if let Err(error) = File::open(&sources.hosts).and_then(|file| hosts.read_hosts_conf(file)) {
            tracing::debug!(%error, file = %sources.hosts.display(), "no hosts file");
        }
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let mut resolver = builder.build()?;
        resolver.set_hosts(Arc::new(hosts));
        Ok(Self { resolver, has_servers, stamps })
    }

    async fn ask(&self, name: &Name, family: RecordType, within: Duration) -> Answer {
        let found = timeout(within, self.resolver.lookup(name.clone(), family)).await;
        let found = found.unwrap_or(Err(NetError::Timeout))?;
        let addresses: Vec<_> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() { Err(NetError::Message("no address")) } else { Ok(addresses) }
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("has_servers", &self.has_servers).finish_non_exhaustive()
    }
}

fn read_servers(path: &Path) -> Result<(ResolverConfig, ResolverOpts), NetError> {
    parse_resolv_conf(fs::read(path)?)
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = address.port());
    server
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// Returns `true` if the error is about the name: a name server or the hosts file reported it.
fn is_answer(error: &NetError) -> bool {
    matches!(error, NetError::Dns(_) | NetError::Message(_))
}
