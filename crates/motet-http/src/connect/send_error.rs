use std::io;
use std::time::Duration;

use thiserror::Error;

use super::error::{Fault, fault_of, find};
use super::{ConnectError, HeadFault};
use crate::client::BoxError;

/// Why a request got no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The scope of the connections has ended, or is about to.
    #[error("the scope of the connections has ended")]
    Closed,
    /// There was no connection in time.
    #[error("no connection within {} ms", .0.as_millis())]
    ConnectTimedOut(Duration),
    /// No connection came about: resolving, dialling, or TLS.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// The other side has said that it does nothing about the request (RFC 9113, 8.7): that its connection of HTTP/2 is to
    /// end, or that it has no room for it.
    #[error("the request was refused")]
    Refused(#[source] BoxError),
    /// A connection that was kept ended before a byte of the answer came: most likely the other side had closed it while it
    /// was idle. Most likely it has done nothing, so a request that may be made twice is worth sending once more.
    #[error("the kept connection has ended")]
    Stale(#[source] BoxError),
    /// The stream that was to be the request's body failed.
    #[error("the body of the request failed")]
    RequestBody(#[source] BoxError),
    /// The connection failed, or the other side broke the rules of HTTP.
    #[error("no answer")]
    Transport(#[source] BoxError),
}

impl SendError {
    /// Returns whose trouble it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Closed => Fault::Local,
            Self::Connect(source) => match find::<ConnectError>(&**source) {
                Some(error) => error.fault(),
                None => tls_fault(source),
            },
            Self::Transport(source) | Self::Stale(source) if find::<HeadFault>(&**source).is_none() => {
                find::<io::Error>(&**source).map_or(Fault::Remote, fault_of)
            }
            _ => Fault::Remote,
        }
    }
}

/// The other side's certificate is its own trouble; what is wrong with ours, or with the name to be proven, is not.
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
