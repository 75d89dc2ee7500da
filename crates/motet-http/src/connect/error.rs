use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
#[cfg(feature = "dns")]
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;

use super::resolver::{ResolveError, io_error};
#[cfg(feature = "proxy")]
use super::tunnel::TunnelError;
use crate::Host;
use crate::client::BoxError;

/// The reason why no connection was opened.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    #[error("{host:?} is not a valid host name")]
    Name { host: String },
    #[error("{host} does not resolve")]
    Resolve { host: String, source: ResolveError },
    #[cfg(feature = "dns")]
    #[error("{host} does not resolve: no name server is configured in {}", .resolv_conf.display())]
    NoNameServer { host: String, resolv_conf: PathBuf },
    #[cfg(feature = "dns")]
    #[error("{host} does not resolve: no name server answers")]
    NoNameServerAnswers { host: String, source: ResolveError },
    #[error("{host} resolves to no address")]
    NoAddress { host: String },
    #[error("connecting to {address} is not allowed")]
    Refused { address: IpAddr, source: BoxError },
    #[error("no connection to {address}")]
    Dial { address: SocketAddr, source: io::Error },
    #[error("{most} connections are already open (`max_open`)")]
    TooManyOpen { most: usize },
    #[error("no connection to {host}")]
    Given { host: Host, source: io::Error },
    #[cfg(not(feature = "tls"))]
    #[error("no TLS for {host}: the feature `tls` of motet-http is not enabled")]
    NoTls { host: String },
    #[cfg(feature = "tls")]
    #[error(
        "the server's certificate is one of a certificate authority (CA:TRUE), which is refused as a server's even where it \
         is trusted; the server needs a certificate with CA:FALSE"
    )]
    AuthorityAsServer { source: BoxError },
    #[cfg(feature = "proxy")]
    #[error("no connection to the proxy {proxy}")]
    Proxy { proxy: String, source: Box<Self> },
    #[cfg(feature = "proxy")]
    #[error("the proxy {proxy} does not connect to {host}")]
    Tunnel { proxy: String, host: String, source: TunnelError },
    #[error("no connection within {} ms", .0.as_millis())]
    Deadline(Duration),
}

/// The side that caused a request to fail, from [`SendError::fault`](super::SendError::fault).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The other side, or the network.
    Remote,
    /// This process or machine: no descriptors or buffers, no route to any address, no local address, no name server
    /// configured, or none that answers for any name. It does not affect the health of the other side.
    Local,
    /// The settings: an address that is refused, an impossible name, or TLS keys that cannot be used.
    Settings,
}

impl ConnectError {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::NoHost | Self::Name { .. } | Self::Refused { .. } => Fault::Settings,
            #[cfg(not(feature = "tls"))]
            Self::NoTls { .. } => Fault::Settings,
            #[cfg(feature = "dns")]
            Self::NoNameServer { .. } | Self::NoNameServerAnswers { .. } => Fault::Local,
            Self::TooManyOpen { .. } => Fault::Local,
            Self::Dial { address, source } => dial_fault(address.ip(), source, has_route),
            Self::Given { source, .. } => fault_of(source),
            Self::Resolve { source, .. } => io_error(source).map_or(Fault::Remote, fault_of),
            #[cfg(feature = "tls")]
            Self::AuthorityAsServer { .. } => Fault::Remote,
            #[cfg(feature = "proxy")]
            Self::Proxy { source, .. } => source.fault(),
            #[cfg(feature = "proxy")]
            Self::Tunnel { source, .. } => source.fault(),
            Self::NoAddress { .. } | Self::Deadline(_) => Fault::Remote,
        }
    }

    /// Returns `true` if the error has no information about the other side.
    pub(super) fn is_about_this_machine(&self) -> bool {
        match self {
            Self::Dial { source, .. } => fault_of(source) == Fault::Local,
            other => other.fault() == Fault::Local,
        }
    }

    /// The error of connecting, with an explanation where needed.
    #[cfg(feature = "tls")]
    pub(super) fn explain(error: BoxError) -> BoxError {
        use rustls::{CertificateError, Error, OtherError};
        match find::<Error>(&*error) {
            Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why))))
                if why.to_string().contains("CaUsedAsEndEntity") =>
            {
                Self::AuthorityAsServer { source: error }.into()
            }
            _ => error,
        }
    }
}

/// Returns the fault of a failed dial. If the networks of one address family cannot be reached, and those of the other
/// can, this machine works: most machines have no route for IPv6.
fn dial_fault(address: IpAddr, error: &io::Error, has_route: impl FnOnce(IpAddr) -> bool) -> Fault {
    let is_family_missing = match error.kind() {
        ErrorKind::NetworkUnreachable => true,
        // For IPv4 it means that no port is free.
        ErrorKind::AddrNotAvailable => address.is_ipv6(),
        _ => false,
    };
    // Addresses for documentation: a packet to them is never sent.
    let other_family: IpAddr = match address {
        IpAddr::V4(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        IpAddr::V6(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
    };
    if is_family_missing && has_route(other_family) { Fault::Remote } else { fault_of(error) }
}

/// Returns `true` if this machine has a route to the address. Sends nothing.
fn has_route(address: IpAddr) -> bool {
    let unspecified: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((unspecified, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

pub(super) fn fault_of(error: &io::Error) -> Fault {
    let is_local = matches!(
        error.kind(),
        ErrorKind::AddrNotAvailable | ErrorKind::NetworkUnreachable | ErrorKind::OutOfMemory
    ) || lacks_descriptors(error)
        || error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error());
    if is_local { Fault::Local } else { Fault::Remote }
}

/// Returns `true` if the process or the system has no descriptors left.
pub(super) fn lacks_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Returns the first error of this type among `error` and its sources, including errors inside of I/O errors.
pub(super) fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error is the source of its inner error.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inside.map(|inside| inside as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_address_family_is_local_only_if_both_are_missing() {
        let (v4, v6) = (IpAddr::from([198, 51, 100, 1]), IpAddr::from([0x2606, 0x4700, 0, 0, 0, 0, 0, 1]));
        for (address, kind, other_works, fault) in [
            (v6, ErrorKind::NetworkUnreachable, true, Fault::Remote),
            (v6, ErrorKind::NetworkUnreachable, false, Fault::Local),
            (v4, ErrorKind::NetworkUnreachable, true, Fault::Remote),
            (v4, ErrorKind::NetworkUnreachable, false, Fault::Local),
            (v6, ErrorKind::AddrNotAvailable, true, Fault::Remote),
            (v4, ErrorKind::AddrNotAvailable, true, Fault::Local),
            (v4, ErrorKind::ConnectionRefused, false, Fault::Remote),
            (v6, ErrorKind::OutOfMemory, true, Fault::Local),
        ] {
            let has_route = |other: IpAddr| {
                assert_ne!(other.is_ipv4(), address.is_ipv4());
                other_works
            };
            let found = dial_fault(address, &kind.into(), has_route);
            assert_eq!(found, fault, "{address} {kind} {other_works}");
        }
        assert!(has_route(Ipv4Addr::LOCALHOST.into()));
    }
}
