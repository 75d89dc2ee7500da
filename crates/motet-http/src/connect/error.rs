use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use crate::Host;
use crate::client::BoxError;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    #[error("{host} does not resolve")]
    Resolve { host: String, source: hickory_resolver::net::NetError },
    #[error("{host} resolves to no address")]
    NoAddress { host: String },
    #[error("{address} is not an address to connect to")]
    Refused { address: IpAddr, source: BoxError },
    #[error("no connection to {address}")]
    Dial { address: SocketAddr, source: io::Error },
    #[error("no connection to {host}")]
    Given { host: Host, source: io::Error },
    #[error("no connection within {} ms", .0.as_millis())]
    Deadline(Duration),
}
