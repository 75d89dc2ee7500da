//! Connections to other hosts: opening (resolve, dial concurrently, TLS; all within one deadline) and pooling.

mod builder;
mod connections;
mod deadline;
mod dial;
mod dialer;
mod error;
mod executor;
mod head_scan;
mod kept;
mod line;
mod resolver;
mod send_error;
mod sending;
mod transport;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};

pub use builder::{ConnectionsBuilder, Versions};
pub use connections::Connections;
use deadline::ConnectDeadline;
use dialer::{AddressFilter, Dial, Dialer};
use error::ConnectError;
pub use error::Fault;
use executor::ScopeExecutor;
use head_scan::HeadFault;
use kept::Kept;
use resolver::NameSources;
pub use send_error::SendError;
pub use sending::ReceivedBody;
pub(crate) use sending::Sending;
use transport::Duplex;
pub(crate) use upload::{Upload, note_empty, outside_of_task};

/// Dials, performs the TLS handshake, and enforces the timeout.
type Connector = ConnectDeadline<HttpsConnector<Dialer>>;

/// The connector of all connections.
struct Plan {
    filter: Option<AddressFilter>,
    dial: Option<Dial>,
    names: NameSources,
    tls: Option<Arc<rustls::ClientConfig>>,
    versions: Versions,
    within: Duration,
    most_head: usize,
    kept: Arc<Kept>,
}

fn connector(plan: Plan) -> Connector {
    let Plan { filter, dial, names, tls, versions, within, most_head, kept } = plan;
    let builder = HttpsConnectorBuilder::new();
    let builder = match tls {
        Some(config) => builder.with_tls_config(Arc::unwrap_or_clone(config)),
        // The certificates of the system, so that a private CA works as elsewhere on the machine; the bundled ones if
        // the system has none.
        None => match builder.with_native_roots() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, "no system certificates; using the bundled Mozilla roots");
                HttpsConnectorBuilder::new().with_webpki_roots()
            }
        },
    };
    let builder = builder.https_or_http();
    let dialer = Dialer::new(filter, dial, names, &kept, within);
    let https = match versions {
        Versions::Any => builder.enable_all_versions().wrap_connector(dialer),
        Versions::Http1 => builder.enable_http1().wrap_connector(dialer),
        Versions::Http2 => builder.enable_http2().wrap_connector(dialer),
    };
    ConnectDeadline::new(https, within, kept, most_head, versions == Versions::Http2)
}
