//! HTTP/2, by agreement or by knowledge, and TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use motet::task::{Scope, gather};
use motet_http::{ApiClient, Body, Connections, ErrorKind, Versions};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::harness::{Certificate, builder, test};

/// Has hyper's tasks belong to the scope of the test.
#[derive(Clone)]
struct InScope(Scope);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for InScope {
    fn execute(&self, future: F) {
        drop(self.0.service("hyper", future));
    }
}

async fn version(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    Ok(Response::new(Full::from(format!("{:?} {:?}", request.version(), request.uri().path()))))
}

/// Serves HTTP/2 without TLS; gives its base URL and the number of connections.
pub(crate) async fn h2(n: &Scope) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, scope) = (Arc::clone(&connections), n.clone());
    n.service("h2 server", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let http = http2::Builder::new(InScope(scope.clone()));
            let connection = http.serve_connection(TokioIo::new(stream), service_fn(version));
            drop(scope.service("h2 connection", async move { drop(connection.await) }));
        }
    })
    .unwrap();
    (base, connections)
}

#[tokio::test]
async fn concurrent_http2_calls_share_a_connection() {
    test(async |n| {
        let (base, connections) = h2(n).await;
        let api = builder(n, &base).versions(Versions::Http2).build().unwrap();
        let answers = gather((0..20).map(|_| api.get("/x").fetch())).await;
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!(answer.version(), Version::HTTP_2);
            assert_eq!(answer.text().await.unwrap(), "HTTP/2.0 \"/x\"");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    })
    .await;
}

#[tokio::test]
async fn idle_http2_connection_that_answers_a_ping_gives_up_its_slot() {
    test(async |n| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pinging = format!("http://{}", listener.local_addr().unwrap());
        let (pinged, scope) = (Arc::new(Notify::new()), Scope::clone(n));
        let pings = Arc::clone(&pinged);
        n.service("pinging server", async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut http = h2::server::handshake(stream).await.unwrap();
            let mut ping = http.ping_pong().unwrap();
            let (_, mut respond) = http.accept().await.unwrap().unwrap();
            respond.send_response(Response::new(()), true).unwrap();
            // Two: the second answer shows that the first one was written.
            drop(scope.service("pings", async move {
                for _ in 0..2 {
                    ping.ping(h2::Ping::opaque()).await.unwrap();
                }
                pings.notify_one();
                std::future::pending::<()>().await;
            }));
            while http.accept().await.is_some() {}
        });
        let (other, _) = h2(n).await;
        let connections = Connections::builder(n).versions(Versions::Http2).max_open(1).build().unwrap();
        let get = |base: &str| Request::get(format!("{base}/")).body(Body::empty()).unwrap();
        drop(connections.send(get(&pinging)).await.unwrap());
        pinged.notified().await;
        assert_eq!(connections.send(get(&other)).await.unwrap().status(), 200);
    })
    .await;
}

/// Serves the version that the handshake negotiates.
pub(crate) async fn tls(n: &Scope, protocols: &[&str]) -> (String, Arc<rustls::ClientConfig>) {
    let localhost = Certificate::of_localhost();
    let trusted = localhost.trusted();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![localhost.certificate], localhost.key)
        .unwrap();
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let scope = n.clone();
    n.service("tls server", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, inner) = (acceptor.clone(), scope.clone());
            drop(scope.service("tls connection", async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = TokioIo::new(stream);
                if is_h2 {
                    let http = http2::Builder::new(InScope(inner));
                    drop(http.serve_connection(stream, service_fn(version)).await);
                } else {
                    drop(http1::Builder::new().serve_connection(stream, service_fn(version)).await);
                }
            }));
        }
    })
    .unwrap();
    (base, trusted)
}

#[tokio::test]
async fn call_uses_the_negotiated_http_version() {
    test(async |n| {
        for (protocols, versions, expected) in [
            (&["h2", "http/1.1"][..], Versions::Any, Version::HTTP_2),
            (&["http/1.1"], Versions::Any, Version::HTTP_11),
            (&["h2", "http/1.1"], Versions::Http1, Version::HTTP_11),
            (&["h2"], Versions::Http2, Version::HTTP_2),
        ] {
            let (base, trusted) = tls(n, protocols).await;
            let api = builder(n, &base).tls(trusted).versions(versions).build().unwrap();
            for _ in 0..2 {
                assert_eq!(api.get("/").fetch().await.unwrap().version(), expected);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn untrusted_certificate_is_refused() {
    test(async |n| {
        let (base, _) = tls(n, &[]).await;
        let error =
            ApiClient::builder(n).base_url(&base).build().unwrap().get("/").once().send().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error:?}");
    })
    .await;
}
