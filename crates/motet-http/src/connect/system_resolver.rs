//! Name resolution by the system, on blocking threads.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use motet::task::timeout;
use tokio::net::lookup_host;

use super::ConnectError;
use crate::Host;

/// The reason why a name does not resolve.
pub(super) type ResolveError = io::Error;

/// The error of the system, if it is the reason.
pub(super) fn io_error(error: &ResolveError) -> Option<&io::Error> {
    Some(error)
}

/// Resolves names as other programs of the system do. A query that the caller no longer awaits keeps its thread until
/// the system gives up.
#[derive(Debug)]
pub(super) struct Resolver;

impl Resolver {
    /// Returns the addresses of both families, in the order of the system.
    pub(super) async fn lookup(&self, host: &str, within: Duration) -> Result<Vec<IpAddr>, ConnectError> {
        Host::check_name(host).map_err(|_| ConnectError::Name { host: host.to_owned() })?;
        let failed = |source| ConnectError::Resolve { host: host.to_owned(), source };
        let found = timeout(within, lookup_host((host, 0))).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)?;
        Ok(found.map(|address| address.ip()).collect())
    }
}
