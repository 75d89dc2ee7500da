//! The server on other transports than TCP, and with TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use motet::task::{CancelToken, Nursery, Reason, timeout};
use motet_http::{ApiClient, Listener as _, MemoryListener, Peer, Served, Server, Versions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::harness::{Certificate, builder, test};

/// Answers with the address of the client, if it has one.
fn peers() -> Router {
    let answer = async |peer: Option<Extension<Peer>>| match peer {
        Some(Extension(Peer(peer))) => peer.ip().to_string(),
        None => "no address".to_owned(),
    };
    Router::new().route("/", get(answer))
}

async fn text(api: &ApiClient) -> String {
    api.get("/").fetch().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn server_on_a_unix_socket_answers_until_it_is_stopped() {
    test(async |n| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http");
        let listener = UnixListener::bind(&path).unwrap();
        let stop = CancelToken::new();
        let stopping = stop.clone();
        // One connection per address: it does not apply to clients without an address.
        let server = Server::builder().max_connections_per_peer(1).build().unwrap();
        let serves = n.spawn("server", async move { server.serve(listener, peers(), stopping).await });
        let dialled = path.clone();
        let dial = move |_| UnixStream::connect(dialled.clone());
        let api = builder(n, "http://socket").connect_by(dial).build().unwrap();
        let _silent = UnixStream::connect(&path).await.unwrap();
        assert_eq!(text(&api).await, "no address");
        // It is in the backlog when the server stops.
        let mut late = UnixStream::connect(&path).await.unwrap();
        stop.cancel(Reason::requested("the test"));
        late.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("no address") && answer.contains("connection: close"), "{answer}");
        drop(_silent);
        assert_eq!(serves.await.unwrap(), Served::All);
        assert_eq!(UnixStream::connect(&path).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connection_in_memory_is_served_also_if_it_waits_at_the_stop() {
    test(async |n| {
        let (listener, connector) = MemoryListener::new();
        let mut early = connector.connect().await.unwrap();
        early.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let stop = CancelToken::new();
        stop.cancel(Reason::requested("the test"));
        let server = Server::new();
        let (served, answer) = tokio::join!(server.serve(listener, peers(), stop), async {
            let mut answer = String::new();
            early.read_to_string(&mut answer).await.unwrap();
            drop(early);
            answer
        });
        assert!(answer.ends_with("no address"), "{answer}");
        assert_eq!(served, Served::All);
        assert_eq!(connector.connect().await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let api = builder(n, "http://memory").connect_by(move |_| connector.connect()).build().unwrap();
        let refused = api.get("/").once().send().await.unwrap_err().to_string();
        assert!(
            refused.contains("cannot connect: no connection to http://memory: connection refused"),
            "{refused}"
        );
    })
    .await;
}

fn tls(protocols: &[&[u8]]) -> (rustls::ServerConfig, Arc<rustls::ClientConfig>) {
    let localhost = Certificate::of_localhost();
    let trusted = localhost.trusted();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![localhost.certificate], localhost.key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (config, trusted)
}

/// Serves `https` with this timeout of headers; gives its port and the configuration of clients.
async fn https(n: &Nursery, header_timeout: Duration) -> (u16, Arc<rustls::ClientConfig>) {
    let (config, trusted) = tls(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder().tls(config).header_timeout(header_timeout).build().unwrap();
    let serving = async move { server.serve(listener, peers(), CancelToken::new()).await };
    n.service("https", serving);
    (port, trusted)
}

#[tokio::test]
async fn server_with_tls_answers_over_http1_and_keeps_the_connection() {
    test(async |n| {
        let (port, trusted) = https(n, Duration::from_secs(30)).await;
        for versions in [Versions::Any, Versions::Http1] {
            let api =
                builder(n, &format!("https://localhost:{port}")).tls(Arc::clone(&trusted)).versions(versions);
            let api = api.build().unwrap();
            for _ in 0..2 {
                let response = api.get("/").fetch().await.unwrap();
                assert_eq!(response.version(), http::Version::HTTP_11);
                assert!(response.text().await.unwrap().contains("1"));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn client_without_a_handshake_is_closed_and_delays_no_other() {
    test(async |n| {
        let (port, trusted) = https(n, Duration::from_millis(300)).await;
        let mut silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let api = builder(n, &format!("https://localhost:{port}")).tls(trusted).build().unwrap();
        assert!(text(&api).await.contains("1"));
        let mut read = Vec::new();
        // An alert, or a reset.
        let _reset = plain.read_to_end(&mut read).await;
        assert!(!read.starts_with(b"HTTP"), "{read:?}");
        let closed = timeout(Duration::from_secs(30), silent.read(&mut [0; 64])).await.unwrap();
        assert!(!matches!(closed, Ok(1..)));
        assert!(text(&api).await.contains("1"));
    })
    .await;
}

#[tokio::test]
async fn tls_configuration_that_offers_http2_is_refused() {
    for (protocols, is_good) in [(&[&b"http/1.1"[..]][..], true), (&[b"h2", b"http/1.1"], false)] {
        let built = Server::builder().tls(tls(protocols).0).build();
        assert_eq!(built.is_ok(), is_good, "{built:?}");
    }
}

#[tokio::test]
async fn closed_listener_returns_no_more_connections_than_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let (memory, connector) = MemoryListener::new();
    let mut clients = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        clients.0.push(TcpStream::connect(address).await.unwrap());
        clients.1.push(UnixStream::connect(&path).await.unwrap());
        clients.2.push(connector.connect().await.unwrap());
    }
    assert_eq!((tcp.close(2).len(), unix.close(2).len(), memory.close(2).len()), (2, 2, 2));
    let mut rest = Vec::new();
    assert_eq!(clients.2[2].read_to_end(&mut rest).await.unwrap(), 0);
}
