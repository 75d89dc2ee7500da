//! Names, and whose trouble it is where there is no connection.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use motet::task::{Nursery, Scope};
use motet_http::{Body, Connections, ConnectionsBuilder, Fault, Host, SendError};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::sleep;

use crate::harness::{Connection, scripted, test};

/// Reads no file of the system.
fn builder(n: &Scope, directory: &Path) -> ConnectionsBuilder {
    let files = ["resolv.conf", "hosts"].map(|name| directory.join(name));
    let [resolv_conf, hosts] = files;
    Connections::builder(n).resolv_conf(resolv_conf).hosts_file(hosts)
}

/// A server on this address, and its port.
async fn server(n: &Nursery<Infallible>) -> u16 {
    let (base, _) = scripted(n, async |mut connection: Connection| {
        while connection.request().await.is_some() {
            connection.answer("204 No Content", "").await;
        }
    })
    .await;
    base.rsplit(':').next().unwrap().parse().unwrap()
}

async fn send(connections: &Connections, host: &str, port: u16) -> Result<u16, SendError> {
    let request = Request::post(format!("http://{host}:{port}/")).body(Body::empty()).unwrap();
    Ok(connections.send(request).await?.status().as_u16())
}

/// A name server that knows `known.test`. For `v4only.test` it does not answer IPv6 queries, for `silent.test` none.
async fn name_server(n: &Scope) -> (SocketAddr, Arc<AtomicUsize>) {
    let unanswered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&unanswered);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = async move {
        let mut query = [0; 512];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut query).await else { return };
            match answer(&query[..length]) {
                Some(answer) => drop(socket.send_to(&answer, from).await),
                None => drop(counted.fetch_add(1, Ordering::Relaxed)),
            }
        }
    };
    drop(n.service("name server", serving).unwrap());
    (address, unanswered)
}

/// The answer to the question, by RFC 1035.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + query[at] as usize;
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let (code, addresses) = match (labels.join(".").as_str(), kind) {
        ("silent.test", _) | ("v4only.test", AAAA) => return None,
        ("known.test" | "v4only.test", A) => (0, 1),
        ("known.test", _) => (0, 0),
        // The root is refused, and other names do not exist.
        ("", _) => (5, 0),
        _ => (3, 0),
    };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, addresses, 0, 0, 0, 0]);
    answer.extend(question);
    if addresses > 0 {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

#[tokio::test]
async fn valid_host_names_are_resolved_and_invalid_ones_refused() {
    test(async |n| {
        let directory = tempfile::tempdir().unwrap();
        let names = ["my_service", "_x.y_z", "a-b.example", "xn--bcher-kva.example"];
        std::fs::write(directory.path().join("hosts"), format!("127.0.0.1 {}\n", names.join(" "))).unwrap();
        let connections = builder(n, directory.path()).build().unwrap();
        let port = server(n).await;
        for name in names {
            assert_eq!(Host::check_name(name), Ok(()));
            assert_eq!(send(&connections, name, port).await.unwrap(), 204, "{name}");
        }
        let long = ["a".repeat(63).as_str(); 4].join(".");
        for name in ["a..b", "-a.example", "a-.example", &"a".repeat(64), &long] {
            assert!(Host::check_name(name).is_err(), "{name}");
            let error = send(&connections, name, port).await.unwrap_err();
            assert_eq!(error.fault(), Fault::Settings, "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn hosts_file_that_appears_later_is_read() {
    test(async |n| {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        let connections = builder(n, directory.path()).build().unwrap();
        let port = server(n).await;
        let error = send(&connections, "later.test", port).await.unwrap_err();
        assert!(format!("{error:?}").contains("NoNameServer"), "{error:?}");
        assert_eq!(error.fault(), Fault::Local);
        // As a container has it whose network is not there yet.
        std::fs::write(file("resolv.conf"), "").unwrap();
        std::fs::write(file("hosts"), "127.0.0.1 later.test\n").unwrap();
        while send(&connections, "later.test", port).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn ipv4_address_is_dialled_while_the_ipv6_query_is_unanswered() {
    test(async |n| {
        let directory = tempfile::tempdir().unwrap();
        let (server_address, unanswered) = name_server(n).await;
        let connections = builder(n, directory.path()).name_servers([server_address]).build().unwrap();
        let port = server(n).await;
        assert_eq!(send(&connections, "v4only.test", port).await.unwrap(), 204);
        // Waited for until it is given up, it would have been asked again.
        assert_eq!(unanswered.load(Ordering::Relaxed), 1);
        assert_eq!(send(&connections, "known.test", port).await.unwrap(), 204);
    })
    .await;
}

#[tokio::test]
async fn failures_are_attributed_to_remote_local_or_settings() {
    test(async |n| {
        let directory = tempfile::tempdir().unwrap();
        let port = server(n).await;
        let resolving = |server: SocketAddr| {
            let within = Duration::from_millis(1_500);
            builder(n, directory.path()).name_servers([server]).connect_timeout(within).build().unwrap()
        };
        let fault = async |connections: &Connections, host: &str, port: u16| {
            let error = send(connections, host, port).await.unwrap_err();
            (error.fault(), format!("{error:?}"))
        };
        let answers = resolving(name_server(n).await.0);
        for name in ["unknown.test", "silent.test"] {
            let (fault, text) = fault(&answers, name, port).await;
            assert_eq!(fault, Fault::Remote, "{text}");
        }
        // It receives queries, in the kernel, and answers none.
        let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let silent = resolving(dead.local_addr().unwrap());
        let (found, text) = fault(&silent, "known.test", port).await;
        assert_eq!(found, Fault::Local, "{text}");

        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (found, text) = fault(&answers, "known.test", closed).await;
        assert_eq!(found, Fault::Remote, "{text}");

        let refuse = |address: IpAddr| if address == Ipv4Addr::LOCALHOST { Err("not here") } else { Ok(()) };
        let guarded = Connections::builder(n).connect_only_to(refuse).build().unwrap();
        let (found, text) = fault(&guarded, "127.0.0.1", port).await;
        assert_eq!(found, Fault::Settings, "{text}");
    })
    .await;
}

/// All of 127.0.0.0/8 is this machine on Linux; nothing listens there but on 127.0.0.1.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn at_most_four_ipv4_addresses_of_a_name_are_dialled() {
    test(async |n| {
        let directory = tempfile::tempdir().unwrap();
        let port = server(n).await;
        let lines = |name: &str, last: u8| {
            let others = (2..last).map(|n| format!("127.0.0.{n} {name}\n"));
            others.chain([format!("127.0.0.1 {name}\n")]).collect::<String>()
        };
        let text = lines("fourth.test", 5) + &lines("fifth.test", 6);
        std::fs::write(directory.path().join("hosts"), text).unwrap();
        let connections = builder(n, directory.path()).build().unwrap();
        assert_eq!(send(&connections, "fourth.test", port).await.unwrap(), 204);
        assert_eq!(send(&connections, "fifth.test", port).await.unwrap_err().fault(), Fault::Remote);
    })
    .await;
}
