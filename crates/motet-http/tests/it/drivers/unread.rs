//! A peer that never reads: a call that is over keeps neither its connection nor its body.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use motet::task::{Nursery, Scope, scope, timeout};
use motet_http::{ApiClient, Body, Connections, ErrorKind, TimeLimit, Versions};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: &["connect::Connections::send"], cancel, sweep };

#[test]
fn scope_dropped_anywhere_in_a_call_drops_connection_and_body() {
    cancel();
}

#[test]
fn ended_call_keeps_no_body_and_no_http1_connection() {
    passes(sweep);
}

/// Counts the live values.
#[derive(Clone, Default)]
struct Live(Arc<AtomicUsize>);

struct Alive(Live);

impl Live {
    fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::SeqCst);
        Alive(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// More than any buffer on the way holds.
struct Large(Vec<u8>, #[expect(dead_code, reason = "it counts by being there")] Alive);

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A connection that is counted until the client has closed it.
struct Counted(DuplexStream, #[expect(dead_code, reason = "it counts by being there")] Alive);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    /// Takes nothing.
    Silent,
    /// Reads the head of a request, and refuses it.
    Refuses,
    /// Speaks HTTP/2, and reads no body. It answers `/well`, and refuses `/refused` with a response that does not end
    /// and `/early` with a whole response.
    Http2,
}

#[derive(Clone, Default)]
struct Home {
    connections: Live,
    bodies: Live,
}

impl Home {
    fn body(&self) -> Body {
        let large = Large(vec![b'x'; 1 << 20], self.bodies.enter());
        Body::from(Bytes::from_owner(large))
    }

    fn dial(&self, n: &Scope, peer: Peer) -> impl Fn(motet_http::Host) -> DialFuture + Send + Sync + 'static {
        let (connections, n) = (self.connections.clone(), n.clone());
        move |_| {
            let (near, far) = duplex(64 << 10);
            n.service("peer", serve(peer, far)).unwrap();
            let near = Counted(near, connections.enter());
            Box::pin(async move { Ok(near) })
        }
    }

    /// Nothing is left of a call that is over.
    async fn is_empty(&self) {
        // The drops happen in other tasks.
        sleep(millis(1)).await;
        assert_eq!((self.connections.count(), self.bodies.count()), (0, 0), "connections, and bodies");
    }
}

type DialFuture = Pin<Box<dyn Future<Output = io::Result<Counted>> + Send>>;

async fn serve(peer: Peer, mut far: DuplexStream) {
    match peer {
        Peer::Silent => std::future::pending().await,
        Peer::Refuses => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = far.read_u8().await else { return };
                head.push(byte);
            }
            let refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge";
            if far.write_all(refusal).await.is_ok() {
                std::future::pending().await
            }
        }
        Peer::Http2 => {
            let Ok(mut connection) = h2::server::handshake(far).await else { return };
            let (mut kept, mut streams) = (Vec::new(), Vec::new());
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                match request.uri().path() {
                    "/well" => drop(respond.send_response(Response::new(()), true)),
                    path @ ("/refused" | "/early") => {
                        let mut refusal = Response::new(());
                        *refusal.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                        let stream = respond.send_response(refusal, path == "/early").unwrap();
                        streams.push((request, stream));
                    }
                    _ => kept.push((request, respond)),
                }
            }
        }
    }
}

fn request(home: &Home, path: &str) -> Request<Body> {
    Request::post(format!("http://a{path}")).body(home.body()).unwrap()
}

/// A stream whose chunks are all ready. Together they are more than the peer allows.
struct ReadyChunks(u32, #[expect(dead_code, reason = "it counts by being there")] Alive);

impl Stream for ReadyChunks {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Bytes::from(vec![b'x'; 4 << 10]))))
    }
}

fn streamed(home: &Home, path: &str) -> Request<Body> {
    let chunks = ReadyChunks(40, home.bodies.enter());
    Request::post(format!("http://a{path}")).body(Body::stream(chunks)).unwrap()
}

fn cancel() {
    for peer in [Peer::Silent, Peer::Refuses] {
        cancel_everywhere(
            async || Home::default(),
            async |home| {
                let done = scope(async |n: &Nursery| {
                    let connections = Connections::builder(n).connect_by(home.dial(n, peer)).build().unwrap();
                    drop(timeout(millis(50), connections.send(request(home, "/a"))).await);
                    home.is_empty().await;
                    Ok(())
                });
                done.await.unwrap();
            },
            async |home, _| {
                motet::drain().await;
                home.is_empty().await;
            },
        );
    }
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        match draw(3) {
            0 => calls_that_time_out().await,
            1 => answered_early().await,
            _ => over_http2().await,
        }
    })
}

async fn calls_that_time_out() {
    let home = Home::default();
    scope(async |n: &Nursery| {
        let api = ApiClient::builder(n).base_url("http://a").connect_by(home.dial(n, Peer::Silent));
        let api = api.max_in_flight(2, 8).without_breakers().build().unwrap();
        for _ in 0..3 {
            let call = api.post("/a").body(home.body()).timeout(millis(1 + draw(300))).once();
            let error = call.send().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TimedOut(TimeLimit::Total)), "{error:?}");
            assert_eq!(api.stats().in_flight, 0);
            home.is_empty().await;
        }
        Ok(())
    })
    .await
    .unwrap();
}

async fn answered_early() {
    let home = Home::default();
    scope(async |n: &Nursery| {
        let connections = Connections::builder(n).connect_by(home.dial(n, Peer::Refuses)).build().unwrap();
        let answer = connections.send(request(&home, "/a")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        // Read to its end, or dropped before.
        if draw(2) == 0 {
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "large");
        } else {
            drop(answer);
        }
        home.is_empty().await;
        Ok(())
    })
    .await
    .unwrap();
}

/// Only the stream is reset: the connection stays.
async fn over_http2() {
    let home = Home::default();
    scope(async |n: &Nursery| {
        let connections = Connections::builder(n).versions(Versions::Http2);
        let connections = connections.connect_by(home.dial(n, Peer::Http2)).build().unwrap();
        for _ in 0..3 {
            match draw(3) {
                0 => {
                    let sent = timeout(millis(10 + draw(50)), connections.send(request(&home, "/a"))).await;
                    assert!(sent.is_err(), "{sent:?}");
                }
                1 => {
                    // The response does not end.
                    let refused = connections.send(streamed(&home, "/refused")).await.unwrap();
                    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
                    drop(refused);
                }
                _ => {
                    let whole = connections.send(request(&home, "/early")).await.unwrap();
                    assert_eq!(whole.status(), StatusCode::PAYLOAD_TOO_LARGE);
                    assert!(whole.into_body().collect().await.unwrap().to_bytes().is_empty());
                }
            }
            sleep(millis(1)).await;
            assert_eq!((home.connections.count(), home.bodies.count()), (1, 0), "connections, and bodies");
            let well = Request::get("http://a/well").body(Body::empty()).unwrap();
            assert_eq!(connections.send(well).await.unwrap().status(), StatusCode::OK);
        }
        Ok(())
    })
    .await
    .unwrap();
}
