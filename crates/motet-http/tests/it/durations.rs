//! Every setting that takes a duration, with odd ones: zero, one nanosecond, centuries, and the longest, which is never.

#[path = "../../../motet/tests/it/durations/scan.rs"]
mod scan;
#[path = "../../../motet/tests/it/durations/table.rs"]
mod table;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use motet::task::{CancelToken, Nursery, Reason, Scope, Task, scope};
use motet_http::{
    ApiClient, ApiClientBuilder, Body, Connections, ConnectionsBuilder, Served, Server, ServerBuilder,
};
use scan::check_complete;
use table::{ABOVE_ZERO, Effect, LIMIT, Row, check};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::sleep;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// The first one only reports a duration. The second one receives a setting that has its row: `unread_timeout`.
const REPORTS: [&str; 2] = ["connect/send_error.rs SendError::ConnectTimedOut", "server/listener.rs set_up"];

const SECOND: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::MAX;

fn rows() -> Vec<Row> {
    vec![
        Row {
            setting: "client/builder.rs timeout",
            means: ABOVE_ZERO,
            uses: |odd| calls(Peer::Silent, odd, |api, odd| api.timeout(odd)),
        },
        Row {
            setting: "client/builder.rs head_timeout",
            means: ABOVE_ZERO,
            uses: |odd| calls(Peer::Silent, odd, |api, odd| api.head_timeout(odd)),
        },
        Row {
            setting: "client/builder.rs read_timeout",
            means: ABOVE_ZERO,
            uses: |odd| calls(Peer::Stops, odd, |api, odd| api.read_timeout(odd)),
        },
        Row {
            setting: "client/builder.rs connect_timeout",
            means: ABOVE_ZERO,
            uses: |odd| calls(Peer::Absent, odd, |api, odd| api.connect_timeout(odd)),
        },
        Row {
            setting: "client/builder.rs max_retry_after",
            means: LIMIT,
            uses: |odd| calls(Peer::Busy, odd, |api, odd| api.max_retry_after(odd)),
        },
        Row { setting: "client/builder.rs idle_timeout", means: LIMIT, uses: is_idle },
        Row { setting: "client/request.rs timeout", means: LIMIT, uses: one_call },
        Row { setting: "connect/builder.rs connect_timeout", means: ABOVE_ZERO, uses: connects },
        Row {
            setting: "connect/builder.rs idle_timeout",
            means: LIMIT,
            uses: |odd| kept(odd, |connections, odd| connections.idle_timeout(odd)),
        },
        Row {
            setting: "connect/builder.rs max_age",
            means: LIMIT,
            uses: |odd| kept(odd, |connections, odd| connections.max_age(odd)),
        },
        Row {
            setting: "server/builder.rs header_timeout",
            means: ABOVE_ZERO,
            uses: |odd| silent("", Server::builder().header_timeout(odd)),
        },
        Row {
            setting: "server/builder.rs idle_timeout",
            means: LIMIT,
            uses: |odd| {
                silent(
                    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
                    Server::builder().idle_timeout(odd).header_timeout(NEVER),
                )
            },
        },
        Row {
            setting: "server/builder.rs unread_timeout",
            means: ABOVE_ZERO,
            uses: |odd| {
                silent("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n", Server::builder().unread_timeout(odd))
            },
        },
        Row {
            setting: "server/builder.rs notice",
            means: LIMIT,
            uses: |odd| stops(Server::builder().notice(odd), false),
        },
        Row {
            setting: "server/builder.rs grace",
            means: LIMIT,
            uses: |odd| stops(Server::builder().grace(odd), true),
        },
    ]
}

#[test]
fn every_duration_setting_has_a_row_in_the_test_table() {
    check_complete(SOURCES, rows().iter().map(|row| row.setting), &REPORTS);
}

#[test]
fn zero_tiny_and_huge_durations_act_as_the_table_says() {
    check(&rows());
}

/// A server in memory.
#[derive(Debug, Clone, Copy)]
enum Peer {
    /// No connection to it is ever made.
    Absent,
    Silent,
    /// It stops in the middle of a body.
    Stops,
    /// It asks to be left alone for a day.
    Busy,
    Well,
}

impl Peer {
    async fn dial(self, servers: Scope, ended: Arc<AtomicUsize>) -> std::io::Result<DuplexStream> {
        if let Self::Absent = self {
            pending::<()>().await;
        }
        let (ours, theirs) = duplex(1 << 10);
        let served = servers.service("peer", self.serve(theirs, ended));
        served.map(|_| ours).map_err(std::io::Error::other)
    }

    async fn serve(self, mut stream: DuplexStream, ended: Arc<AtomicUsize>) {
        let answer = match self {
            Self::Absent | Self::Silent => "",
            Self::Stops => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe",
            Self::Busy => {
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: 86400\r\ncontent-length: 0\r\n\r\n"
            }
            Self::Well => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        };
        let mut request = [0; 1 << 10];
        while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client without limits of time, and the number of connections that have ended.
fn api(n: &Scope, peer: Peer) -> (ApiClientBuilder, Arc<AtomicUsize>) {
    let ended = Arc::new(AtomicUsize::new(0));
    let (servers, ends) = (n.clone(), Arc::clone(&ended));
    let api = ApiClient::builder(n)
        .base_url("http://memory")
        .without_timeout()
        .head_timeout(NEVER)
        .read_timeout(NEVER);
    let api = api.connect_timeout(NEVER).idle_timeout(NEVER).without_breakers();
    (api.connect_by(move |_| peer.dial(servers.clone(), Arc::clone(&ends))), ended)
}

/// The effect: a call fails.
fn calls(peer: Peer, odd: Duration, set: fn(ApiClientBuilder, Duration) -> ApiClientBuilder) -> Effect {
    Box::pin(async move {
        let mut refused = None;
        scope(async |n: &Nursery<Infallible>| {
            match set(api(n, peer).0.without_retry_unless(peer), odd).build() {
                Ok(api) => drop(api.get("/").fetch().await.unwrap_err()),
                Err(why) => refused = Some(why),
            }
            Ok(())
        })
        .await?;
        refused.map_or(Ok(()), |why| Err(why.into()))
    })
}

trait WithoutRetryUnless {
    fn without_retry_unless(self, peer: Peer) -> Self;
}

impl WithoutRetryUnless for ApiClientBuilder {
    /// Only one that is busy is called again: when it has asked for that.
    fn without_retry_unless(self, peer: Peer) -> Self {
        if let Peer::Busy = peer { self } else { self.without_retry() }
    }
}

fn one_call(odd: Duration) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let api = api(n, Peer::Silent).0.build().unwrap();
            drop(api.get("/").timeout(odd).fetch().await.unwrap_err());
            Ok(())
        })
        .await?;
        Ok(())
    })
}

/// The effect: a connection is closed at which nothing is asked.
fn is_idle(odd: Duration) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let (builder, ended) = api(n, Peer::Well);
            let api = builder.idle_timeout(odd).build().unwrap();
            assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
            while ended.load(Ordering::Relaxed) == 0 {
                sleep(SECOND).await;
            }
            Ok(())
        })
        .await?;
        Ok(())
    })
}

async fn exchange(connections: &Connections) {
    let request = http::Request::builder().uri("http://memory/").body(Body::empty()).unwrap();
    let answer = connections.send(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
    assert_eq!(body.to_bytes(), "hello");
}

fn connects(odd: Duration) -> Effect {
    Box::pin(async move {
        let mut refused = None;
        scope(async |n: &Nursery<Infallible>| {
            let servers = Scope::clone(n);
            let connections = Connections::builder(n).connect_timeout(odd);
            match connections.connect_by(move |_| Peer::Absent.dial(servers.clone(), Arc::default())).build()
            {
                Ok(connections) => {
                    let request = http::Request::builder().uri("http://memory/").body(Body::empty()).unwrap();
                    drop(connections.send(request).await.unwrap_err());
                }
                Err(why) => refused = Some(why),
            }
            Ok(())
        })
        .await?;
        refused.map_or(Ok(()), |why| Err(why.into()))
    })
}

/// The effect: a connection is closed, of several that answer one request after the other.
fn kept(odd: Duration, set: fn(ConnectionsBuilder, Duration) -> ConnectionsBuilder) -> Effect {
    Box::pin(async move {
        scope(async |n: &Nursery<Infallible>| {
            let ended = Arc::new(AtomicUsize::new(0));
            let (servers, ends) = (Scope::clone(n), Arc::clone(&ended));
            let connections = set(Connections::builder(n).idle_timeout(NEVER).max_age(NEVER), odd);
            let dial = move |_| Peer::Well.dial(servers.clone(), Arc::clone(&ends));
            let connections = connections.connect_by(dial).build().unwrap();
            while ended.load(Ordering::Relaxed) == 0 {
                exchange(&connections).await;
                sleep(SECOND).await;
            }
            Ok(())
        })
        .await?;
        Ok(())
    })
}

/// Serves in the background.
async fn serve(n: &Scope, server: Server, begun: CancelToken) -> (TcpStream, CancelToken, Task<Served>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endless = get(async || axum::body::Body::new(Endless));
    let router = Router::new().route("/", get(async || "hello")).route("/endless", endless);
    let hangs = get(async move || {
        begun.cancel(Reason::requested("a request is there"));
        pending::<&str>().await
    });
    let router = router.route("/hangs", hangs);
    let stop = CancelToken::new();
    let (told, serving) = (stop.clone(), server.clone());
    let serving = n.service("server", async move { serving.serve(listener, router, told).await }).unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    // The socket reports it in real time: the virtual clock does not advance while a task can run.
    while server.stats().connections == 0 {
        yield_now().await;
    }
    (client, stop, serving)
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[0; 64 << 10])))))
    }
}

/// The effect: the server ends after its stop.
fn silent(request: &'static str, server: ServerBuilder) -> Effect {
    Box::pin(async move {
        let server = server.build()?;
        scope(async |n: &Nursery<Infallible>| {
            let (mut client, _stop, _serving) = serve(n, server.clone(), CancelToken::new()).await;
            client.write_all(request.as_bytes()).await.unwrap();
            while !request.is_empty() && client.try_read(&mut [0]).is_err() {
                yield_now().await;
            }
            while server.stats().connections > 0 {
                sleep(SECOND).await;
            }
            n.cancel(Reason::requested("it is closed"));
            Ok(())
        })
        .await
        .unwrap_or(());
        Ok(())
    })
}

/// The effect: the server ends after its stop.
fn stops(server: ServerBuilder, is_busy: bool) -> Effect {
    Box::pin(async move {
        let server = server.build()?;
        scope(async |n: &Nursery<Infallible>| {
            let begun = CancelToken::new();
            let (mut client, stop, serving) = serve(n, server, begun.clone()).await;
            if is_busy {
                client.write_all(b"GET /hangs HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                while !begun.is_cancelled() {
                    yield_now().await;
                }
            }
            stop.cancel(Reason::requested("enough"));
            let _served = serving.await.unwrap();
            Ok(())
        })
        .await?;
        Ok(())
    })
}
