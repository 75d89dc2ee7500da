use std::time::Duration;

use thiserror::Error;

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
    /// The stream that was to be the request's body failed.
    #[error("the body of the request failed")]
    RequestBody(#[source] BoxError),
    /// The connection failed, or the other side broke the rules of HTTP.
    #[error("no answer")]
    Transport(#[source] BoxError),
}
