//! Checks of the network: the name server, a relay that runs, and a delivery to this machine.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Method};
use motet::task::Scope;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, lookup_host};

use super::Finding;
use crate::config::Config;
use crate::control::{CommandError, Control};
use crate::guard::AddressGuard;
use crate::outbound::Outbound;

/// A name that is reserved for examples and exists (RFC 6761).
const EXAMPLE: (&str, u16) = ("example.com", 443);

pub(super) async fn name_server() -> Finding {
    const CHECK: &str = "name server";
    match lookup_host(EXAMPLE).await.map(|found| found.count()) {
        Ok(found) if found > 0 => Finding::good(CHECK, format!("{} has {found} addresses", EXAMPLE.0)),
        Ok(_) => Finding::warning(CHECK, format!("{} has no address", EXAMPLE.0), LOOK_AT_RESOLVER),
        Err(error) => {
            Finding::warning(CHECK, format!("{} is not resolved: {error}", EXAMPLE.0), LOOK_AT_RESOLVER)
        }
    }
}

const LOOK_AT_RESOLVER: &str = "deliveries to names that are not resolved are repeated; look at /etc/resolv.conf, unless this machine has no internet";

/// Looks at the relay that uses the data directory, or else at the address that a relay would listen on.
pub(super) async fn running(scope: &Scope, config: &Config) -> Vec<Finding> {
    const CHECK: &str = "relay";
    let in_data = format!("{}", config.data.display());
    match Control::over_socket(scope, &config.data).await {
        Ok(Some(control)) => match control.request(Method::GET, "/readyz", &[], None).await {
            Ok(_) => vec![Finding::good(CHECK, format!("a relay runs in {in_data}, and is ready"))],
            Err(CommandError::Refused { detail, .. }) => {
                vec![Finding::error(
                    CHECK,
                    format!("the relay in {in_data} is not ready: {detail}"),
                    "look at its log",
                )]
            }
            Err(error) => vec![Finding::error(CHECK, error.to_string(), "look at the log of relay")],
        },
        Ok(None) => {
            let none = Finding::good(CHECK, format!("no relay runs in {in_data}"));
            match TcpListener::bind(config.listen).await {
                Ok(_) => vec![none],
                Err(error) => {
                    let detail = format!("relay could not listen on {}: {error}", config.listen);
                    let action = "choose another address with --listen, or stop the program that uses it";
                    vec![none, Finding::error("listen", detail, action)]
                }
            }
        }
        Err(error) => vec![Finding::warning(CHECK, error.to_string(), "run doctor as the user of relay")],
    }
}

/// Delivers to a receiver in this process, with the client of deliveries.
pub(super) async fn delivery(scope: &Scope, config: &Config) -> Finding {
    const CHECK: &str = "delivery";
    match deliver(scope, config).await {
        Ok(()) => Finding::good(CHECK, "a delivery to loopback was received"),
        Err(why) => Finding::error(
            CHECK,
            format!("a delivery to loopback failed: {why}"),
            "look at the firewall of this machine",
        ),
    }
}

async fn deliver(scope: &Scope, config: &Config) -> Result<(), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let guard = AddressGuard::new(vec![IpAddr::from(Ipv4Addr::LOCALHOST).into()]);
    let outbound =
        Outbound::new(guard, config.timeouts.clone(), 1, scope).map_err(|error| error.to_string())?;
    let receiver = async {
        let (mut stream, _) = listener.accept().await?;
        // The head arrives in one piece, and nothing depends on the rest.
        let mut head = [0; 4_096];
        let _read = stream.read(&mut head).await?;
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await
    };
    let mut headers = HeaderMap::new();
    let invalid = |error: http::header::InvalidHeaderValue| error.to_string();
    headers.insert(HOST, address.to_string().parse().map_err(invalid)?);
    headers.insert(CONTENT_LENGTH, "2".parse().map_err(invalid)?);
    let url = format!("http://{address}/");
    let (received, answered) =
        tokio::join!(receiver, outbound.post(&url, headers, Bytes::from_static(b"{}")));
    let answered = answered.map_err(|error| error.to_string())?;
    received.map_err(|error| error.to_string())?;
    if answered.status == 204 { Ok(()) } else { Err(format!("the status was {}", answered.status)) }
}
