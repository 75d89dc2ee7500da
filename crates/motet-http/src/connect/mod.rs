//! Connections to other hosts: opening (resolve, dial concurrently, TLS; all within one deadline) and pooling.

mod builder;
mod connections;
mod deadline;
mod dial;
mod dialer;
mod error;
mod executor;
mod frame_scan;
mod head_scan;
mod kept;
mod line;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(feature = "dns")]
mod resolver;
#[cfg(not(feature = "dns"))]
#[path = "system_resolver.rs"]
mod resolver;
mod send_error;
mod sending;
mod transport;
#[cfg(feature = "proxy")]
mod tunnel;
mod upload;

use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(feature = "tls")]
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
#[cfg(feature = "tls")]
use rustls::client::Resumption;
#[cfg(feature = "tls")]
use rustls::crypto::CryptoProvider;

pub use builder::{ConnectionsBuilder, Versions};
pub use connections::Connections;
use deadline::ConnectDeadline;
use dialer::{AddressFilter, Dial, Dialer};
use error::ConnectError;
pub use error::Fault;
use executor::ScopeExecutor;
use head_scan::HeadFault;
use kept::Kept;
#[cfg(feature = "proxy")]
pub use proxy::{Proxy, ProxyError};
#[cfg(feature = "dns")]
use resolver::NameSources;
pub use send_error::SendError;
pub use sending::ReceivedBody;
pub(crate) use sending::Sending;
use transport::Duplex;
pub(crate) use upload::{Upload, note_empty, outside_of_task};

/// Dials, performs the TLS handshake, and enforces the timeout.
#[cfg(feature = "tls")]
type Connector = ConnectDeadline<HttpsConnector<Dialer>>;
#[cfg(not(feature = "tls"))]
type Connector = ConnectDeadline<Dialer>;

/// The connector of all connections.
struct Plan {
    filter: Option<AddressFilter>,
    dial: Option<Dial>,
    #[cfg(feature = "dns")]
    names: NameSources,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ClientConfig>>,
    versions: Versions,
    #[cfg(feature = "proxy")]
    proxy: Option<Proxy>,
    within: Duration,
    most_head: usize,
    kept: Arc<Kept>,
}

fn connector(plan: Plan) -> Connector {
    let dialer = Dialer::new(&plan);
    let is_http2 = !plan.versions.sends_host();
    let Plan { within, most_head, kept, .. } = plan;
    #[cfg(feature = "tls")]
    let dialer = with_tls(dialer, plan.tls, plan.versions);
    ConnectDeadline::new(dialer, within, kept, most_head, is_http2)
}

/// Trusts the certificates of the system. They are read once, which takes milliseconds: a test in virtual time creates a client
/// in each of its hundreds of runs.
#[cfg(feature = "tls")]
static OF_THE_SYSTEM: OnceLock<rustls::ClientConfig> = OnceLock::new();

/// Trusts the certificates of the system, so that a private CA works as elsewhere on the machine; the bundled ones if the system
/// has none. Each configuration has its own sessions.
#[cfg(feature = "tls")]
fn trusted() -> rustls::ClientConfig {
    if let Some(config) = OF_THE_SYSTEM.get() {
        let mut config = config.clone();
        config.resumption = Resumption::default();
        return config;
    }
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let versions = || {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
        builder.with_safe_default_protocol_versions().expect("a provider supports a version of TLS")
    };
    match versions().with_native_roots() {
        Ok(roots) => {
            // Another thread may have been quicker.
            let _stored = OF_THE_SYSTEM.set(roots.with_no_client_auth());
            trusted()
        }
        Err(error) => {
            tracing::warn!(%error, "no system certificates; using the bundled Mozilla roots");
            versions().with_webpki_roots().with_no_client_auth()
        }
    }
}

/// Performs the TLS handshake of `https` URLs.
#[cfg(feature = "tls")]
fn with_tls(
    dialer: Dialer,
    config: Option<Arc<rustls::ClientConfig>>,
    versions: Versions,
) -> HttpsConnector<Dialer> {
    let config = config.map_or_else(trusted, Arc::unwrap_or_clone);
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    match versions {
        Versions::Http1 => builder.enable_http1().wrap_connector(dialer),
        #[cfg(feature = "http2")]
        Versions::Any => builder.enable_all_versions().wrap_connector(dialer),
        #[cfg(not(feature = "http2"))]
        Versions::Any => builder.enable_http1().wrap_connector(dialer),
        #[cfg(feature = "http2")]
        Versions::Http2 => builder.enable_http2().wrap_connector(dialer),
    }
}
