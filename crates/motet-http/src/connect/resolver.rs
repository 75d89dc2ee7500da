//! Name resolution without blocking threads.

use std::net::IpAddr;
use std::sync::OnceLock;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::ConnectError;

/// Resolves names as the system is configured to (`/etc/resolv.conf`, `/etc/hosts`), with a cache that follows the
/// records' time to live.
///
/// Read on first use: hosts given by address need none.
#[derive(Debug, Default)]
pub(super) struct Resolver(OnceLock<TokioResolver>);

impl Resolver {
    pub(super) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let failed = |source| ConnectError::Resolve { host: host.to_owned(), source };
        let resolver = match self.0.get() {
            Some(resolver) => resolver,
            None => {
                let fresh = from_system().map_err(failed)?;
                self.0.get_or_init(|| fresh)
            }
        };
        Ok(resolver.lookup_ip(host).await.map_err(failed)?.iter().collect())
    }
}

/// Without a usable system configuration only the hosts file is consulted.
fn from_system() -> Result<TokioResolver, NetError> {
    let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        tracing::warn!(%error, "no name servers configured; only names in the hosts file resolve");
        TokioResolver::builder_with_config(
            ResolverConfig::from_name_servers(Vec::new()),
            TokioRuntimeProvider::default(),
        )
    });
    builder.build()
}
