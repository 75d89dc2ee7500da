//! Name resolution without blocking threads.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Resolves names as the system is configured to (`/etc/resolv.conf`, `/etc/hosts`), with a cache that
/// follows the records' time to live.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    inner: TokioResolver,
}

impl Resolver {
    /// Without a usable system configuration only the hosts file is consulted.
    pub(super) fn from_system() -> Result<Self, NetError> {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no name servers configured; only names in the hosts file resolve");
            TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(Vec::new()),
                TokioRuntimeProvider::default(),
            )
        });
        Ok(Self { inner: builder.build()? })
    }

    pub(super) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, NetError> {
        Ok(self.inner.lookup_ip(host).await?.iter().collect())
    }
}
