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

/// The configuration that trusts the certificates of the system. They are read once, which takes milliseconds: a test in virtual
/// time creates a client in each of its hundreds of runs.
#[cfg(feature = "tls")]
static TRUSTED: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();

/// Trusts the certificates of the system, so that a private CA works as elsewhere on the machine; the bundled ones if the system
/// has none.
#[cfg(feature = "tls")]
fn trusted() -> Arc<rustls::ClientConfig> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let versions = || {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
        builder.with_safe_default_protocol_versions().expect("a provider supports a version of TLS")
    };
    let roots = versions().with_native_roots().unwrap_or_else(|error| {
        tracing::warn!(%error, "no system certificates; using the bundled Mozilla roots");
        versions().with_webpki_roots()
    });
    Arc::new(roots.with_no_client_auth())
}

/// Performs the TLS handshake of `https` URLs.
#[cfg(feature = "tls")]
fn with_tls(
    dialer: Dialer,
    config: Option<Arc<rustls::ClientConfig>>,
    versions: Versions,
) -> HttpsConnector<Dialer> {
    let config = config.unwrap_or_else(|| Arc::clone(TRUSTED.get_or_init(trusted)));
    let builder = HttpsConnectorBuilder::new().with_tls_config(Arc::unwrap_or_clone(config)).https_or_http();
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
