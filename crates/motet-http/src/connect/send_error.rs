use std::io;
use std::time::Duration;

use thiserror::Error;

use super::error::{Fault, fault_of, find};
use super::{ConnectError, HeadFault};
use crate::client::BoxError;

/// The reason why a request got no response.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The scope of the connections has ended or is ending. A request that was in flight may have been processed.
    #[error("the scope of the connections has ended")]
    Closed,
    /// Connecting timed out.
    #[error("no connection within {} ms", .0.as_millis())]
    ConnectTimedOut(Duration),
    /// The connection could not be opened: resolving, dialling, or TLS failed.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// The server states that it did not process the request (RFC 9113, 8.7): its HTTP/2 connection is closing, or it
    /// has no capacity.
    #[error("the request was refused")]
    Refused(#[source] BoxError),
    /// An idle connection ended before a byte of the response arrived: most likely the server had closed it, and has
    /// not processed the request. A request that may be repeated is worth another attempt.
    #[error("the idle connection has ended")]
    Stale(#[source] BoxError),
    /// The stream of the request body failed, or the body has another length than its `content-length`.
    #[error("the body of the request failed")]
    RequestBody(#[source] BoxError),
    /// The connection failed, or the server violated HTTP.
    #[error("no answer")]
    Transport(#[source] BoxError),
}

impl SendError {
    /// Returns the side that caused the failure.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Closed => Fault::Local,
            Self::Connect(source) => match find::<ConnectError>(&**source) {
                Some(error) => error.fault(),
                #[cfg(feature = "tls")]
                None => tls_fault(source),
                #[cfg(not(feature = "tls"))]
                None => find::<io::Error>(&**source).map_or(Fault::Remote, fault_of),
            },
            Self::Transport(source) | Self::Stale(source) if find::<HeadFault>(&**source).is_none() => {
                find::<io::Error>(&**source).map_or(Fault::Remote, fault_of)
            }
            _ => Fault::Remote,
        }
    }
}

/// A bad certificate of the other side is its own fault; an error in our certificate or in the expected name is not.
#[cfg(feature = "tls")]
fn tls_fault(error: &BoxError) -> Fault {
    use rustls::Error;
    match find::<Error>(&**error) {
        Some(Error::InconsistentKeys(_) | Error::InvalidCertRevocationList(_)) => Fault::Settings,
        Some(Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes) => Fault::Local,
        Some(_) => Fault::Remote,
        None if find::<rustls::pki_types::InvalidDnsNameError>(&**error).is_some() => Fault::Settings,
        None => find::<io::Error>(&**error).map_or(Fault::Remote, fault_of),
    }
}
