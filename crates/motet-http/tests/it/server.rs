//! A server in a scope, and how it stops.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use motet::stream::{StreamCombinators as _, Yielder, generator};
use motet::task::{CancelToken, Nursery, Reason, Task};
use motet_http::{ErrorKind, Peer, Readiness, Served, Server, ServerBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;

use crate::harness::{builder, client, test};

/// Serves until it is stopped.
async fn serve(n: &Nursery, server: Server, router: Router) -> (String, CancelToken, Task<Served>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancelToken::new();
    let stopped = stop.clone();
    let serving = n.spawn("server", async move { server.serve(listener, router, stopped).await });
    (base, stop, serving)
}

fn enough() -> Reason {
    Reason::requested("enough")
}

/// A handler that reports its calls, and answers when the test allows it.
#[derive(Clone)]
struct Gate {
    called: Arc<Notify>,
    open: Arc<Semaphore>,
}

fn gated() -> (Router, Gate) {
    let gate = Gate { called: Arc::default(), open: Arc::new(Semaphore::new(0)) };
    let handler = async |State(gate): State<Gate>| {
        gate.called.notify_one();
        gate.open.acquire().await.unwrap().forget();
        "done"
    };
    (Router::new().route("/", get(handler)).with_state(gate.clone()), gate)
}

#[tokio::test]
async fn request_head_of_140_kib_gets_a_431() {
    test(async |n| {
        let router = Router::new().route("/", get(async || "done"));
        let (base, stop, _) = serve(n, Server::new(), router).await;
        for (size, expected) in [(60 << 10, "HTTP/1.1 200 "), (140 << 10, "HTTP/1.1 431 ")] {
            let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
            let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(size));
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut status = vec![0; expected.len()];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(String::from_utf8(status).unwrap(), expected);
        }
        stop.cancel(enough());
    })
    .await;
}

#[tokio::test]
async fn stop_completes_requests_and_closes_idle_connections() {
    test(async |n| {
        let (router, gate) = gated();
        let (base, stop, serving) = serve(n, Server::new(), router).await;
        let mut idle = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        let api = client(n, &base);
        gate.open.add_permits(1);
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        gate.called.notified().await;
        let call = n.spawn("call", async move { api.get("/").fetch_bytes().await });
        gate.called.notified().await;
        stop.cancel(enough());
        let mut all = Vec::new();
        idle.read_to_end(&mut all).await.unwrap();
        assert!(all.ends_with(b"done"), "it is closed after its answer");
        gate.open.add_permits(1);
        assert_eq!(call.await.unwrap().unwrap(), "done");
        assert_eq!(serving.await.unwrap(), Served::All);
        assert!(TcpStream::connect(base.trim_start_matches("http://")).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn request_running_at_the_end_of_the_grace_is_cut_off() {
    test(async |n| {
        let (router, gate) = gated();
        let (base, stop, serving) =
            serve(n, Server::builder().grace(Duration::from_millis(20)).build().unwrap(), router).await;
        let api = builder(n, &base).without_retry().build().unwrap();
        let call = n.spawn("call", async move { api.get("/").fetch_bytes().await });
        gate.called.notified().await;
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::Cut { connections: 1 });
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn readiness_fails_during_the_notice_while_calls_are_answered() {
    test(async |n| {
        let readiness = Readiness::new();
        let asked = readiness.clone();
        let router = Router::new().route("/readyz", get(async move || asked.status()));
        let notice = Duration::from_millis(200);
        let server = Server::builder().readiness(&readiness).notice(notice).build().unwrap();
        let (base, stop, serving) = serve(n, server, router).await;
        let api = builder(n, &base).without_retry().build().unwrap();
        let ask = async || api.get("/readyz").send().await.unwrap().status().as_u16();
        assert_eq!(ask().await, 503);
        readiness.set(true);
        assert_eq!(ask().await, 200);
        stop.cancel(enough());
        while readiness.is_ready() {
            tokio::task::yield_now().await;
        }
        // The server is still there to answer.
        assert_eq!(ask().await, 503);
        readiness.set(true);
        assert!(readiness.is_stopping() && !readiness.is_ready());
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}

#[tokio::test]
async fn panic_of_a_handler_fails_its_request_and_not_the_server() {
    test(async |n| {
        let router = Router::new()
            .route("/panic", get(async || -> &'static str { panic!("a bug") }))
            .route("/", get(async || "hello"));
        let (base, stop, serving) = serve(n, Server::new(), router).await;
        let api = builder(n, &base).without_retry().build().unwrap();
        let error = api.get("/panic").send().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
        assert_eq!(api.get("/").fetch_bytes().await.unwrap(), "hello");
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}

#[tokio::test]
async fn silent_client_does_not_keep_the_only_connection_slot() {
    test(async |n| {
        let router = Router::new().route("/", get(async || "hello"));
        let server =
            Server::builder().header_timeout(Duration::from_millis(50)).max_connections(1).build().unwrap();
        let (base, stop, serving) = serve(n, server, router).await;
        let silent = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        // It has the only place until its time is over.
        assert_eq!(client(n, &base).get("/").fetch_bytes().await.unwrap(), "hello");
        drop(silent);
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}

#[tokio::test]
async fn extensions_of_a_request_have_the_address_of_the_client() {
    test(async |n| {
        let peer = async |request: Request<axum::body::Body>| {
            request.extensions().get::<Peer>().unwrap().0.ip().to_string()
        };
        let (base, stop, serving) = serve(n, Server::new(), Router::new().route("/", get(peer))).await;
        assert_eq!(client(n, &base).get("/").fetch_bytes().await.unwrap(), "127.0.0.1");
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}

/// Waits for what the server will have seen soon.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stats_and_snapshot_count_connections() {
    test(async |n| {
        let (router, gate) = gated();
        let server = Server::builder().name("api").build().unwrap();
        let (base, stop, serving) = serve(n, server.clone(), router).await;
        let counted = || (server.stats().connections, server.stats().accepted);
        assert_eq!(counted(), (0, 0));
        let idle = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        until(|| counted() == (1, 1)).await;
        let api = client(n, &base);
        let call = n.spawn("call", async move { api.get("/").fetch_bytes().await });
        gate.called.notified().await;
        assert_eq!(counted(), (2, 2));
        let shown = n.snapshot().to_string();
        assert!(shown.contains("http server `api`: connections 2, accepted 2"), "{shown}");
        drop(idle);
        until(|| counted() == (1, 2)).await;
        gate.open.add_permits(1);
        assert_eq!(call.await.unwrap().unwrap(), "done");
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
        assert_eq!(counted(), (0, 2));
    })
    .await;
}

#[tokio::test]
async fn stream_that_ends_at_the_stop_is_received_to_its_end() {
    test(async |n| {
        let stop = CancelToken::new();
        let stopping = stop.clone();
        // As of server-sent events.
        let endless = async move || {
            let ticks = generator(async |mut y: Yielder<Result<Bytes, Infallible>>| {
                loop {
                    y.emit(Ok(Bytes::from_static(b"tick"))).await;
                    sleep(Duration::from_millis(5)).await;
                }
            });
            axum::body::Body::from_stream(ticks.until(stopping.clone()))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/", get(endless));
        let stopped = stop.clone();
        let serving = n.spawn("server", async move { Server::new().serve(listener, router, stopped).await });
        let mut answer = client(n, &base).get("/").send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "tick");
        stop.cancel(enough());
        // To its end, which is one.
        while answer.chunk().await.unwrap().is_some() {}
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}

#[tokio::test]
async fn cancelled_server_closes_its_connections() {
    test(async |n| {
        let (router, gate) = gated();
        let (base, _stop, serving) = serve(n, Server::new(), router).await;
        let mut open = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        gate.called.notified().await;
        serving.cancel(enough());
        drop(serving);
        assert_eq!(open.read(&mut [0; 64]).await.unwrap_or(0), 0, "it is closed");
    })
    .await;
}

/// Sends requests one after the other on one connection, until a response announces the end. Returns the number of
/// answered requests, and whether one was not answered. Adds a permit to `begun` after its first response.
async fn keep_asking(address: String, begun: Arc<Semaphore>) -> (usize, bool) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answered = 0;
    loop {
        let mut answer = Vec::new();
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        while asked.is_ok() && !answer.ends_with(b"hello") {
            if !stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {
                break;
            }
        }
        if !answer.ends_with(b"hello") {
            return (answered, true);
        }
        answered += 1;
        begun.add_permits(usize::from(answered == 1));
        if String::from_utf8_lossy(&answer).contains("connection: close") {
            return (answered, false);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_answers_every_request_of_busy_connections() {
    test(async |n| {
        let router = Router::new().route("/", get(async || "hello"));
        let (base, stop, serving) = serve(n, Server::new(), router).await;
        let address = base.trim_start_matches("http://").to_owned();
        let begun = Arc::new(Semaphore::new(0));
        let ask = || keep_asking(address.clone(), Arc::clone(&begun));
        let clients: Vec<_> = (0..320).map(|_| n.spawn("client", ask())).collect();
        let _all = begun.acquire_many(320).await.unwrap();
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
        let (mut answered, mut unanswered) = (0, 0);
        for client in clients {
            let (some, lost) = client.await.unwrap();
            answered += some;
            unanswered += usize::from(lost);
        }
        assert_eq!(unanswered, 0, "of {answered} requests");
        assert!(answered >= 320, "{answered}");
    })
    .await;
}

#[tokio::test]
async fn stop_serves_connections_in_the_backlog() {
    test(async |n| {
        let router = Router::new().route("/", get(async || "hello"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Connected, and not yet accepted when the server stops.
        let begun = Arc::new(Semaphore::new(0));
        let ask = || keep_asking(address.clone(), Arc::clone(&begun));
        let waiting: Vec<_> = (0..8).map(|_| n.spawn("client", ask())).collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let stop = CancelToken::new();
        stop.cancel(enough());
        assert_eq!(Server::new().serve(listener, router, stop).await, Served::All);
        for client in waiting {
            assert_eq!(client.await.unwrap(), (1, false));
        }
    })
    .await;
}

#[tokio::test]
async fn half_a_request_head_does_not_prevent_a_stop() {
    test(async |n| {
        let router = Router::new().route("/", get(async || "hello"));
        let server = Server::builder().grace(Duration::MAX).header_timeout(Duration::MAX).build().unwrap();
        let (base, stop, serving) = serve(n, server.clone(), router).await;
        let mut half = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        until(|| server.stats().connections == 1).await;
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}

#[test]
fn zero_that_serves_no_request_is_an_error_naming_its_setting() {
    let error = |builder: ServerBuilder| builder.build().unwrap_err().to_string();
    let zero = Duration::ZERO;
    assert_eq!(error(Server::builder().max_connections(0)), "`max_connections` is 0; it must be at least 1");
    let per_peer = error(Server::builder().max_connections_per_peer(0));
    assert_eq!(per_peer, "`max_connections_per_peer` is 0; it must be at least 1");
    let headers = error(Server::builder().header_timeout(zero));
    assert_eq!(headers, "`header_timeout` is zero; no request could be read");
    let unread = error(Server::builder().unread_timeout(zero));
    assert_eq!(unread, "`unread_timeout` is zero; no response could be written");
    assert!(Server::builder().idle_timeout(zero).notice(zero).grace(zero).build().is_ok());
}

#[tokio::test]
async fn longest_silent_connection_is_closed_for_a_new_one() {
    test(async |n| {
        let router = Router::new().route("/", get(async || "hello"));
        let server =
            Server::builder().max_connections(8).max_connections_per_peer(8).header_timeout(Duration::MAX);
        let server = server.build().unwrap();
        let (base, stop, serving) = serve(n, server.clone(), router).await;
        let address = base.trim_start_matches("http://");
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        until(|| server.stats().accepted == 8).await;
        assert_eq!(client(n, &base).get("/").fetch_bytes().await.unwrap(), "hello");
        // The one that was silent for longest is gone, and the others are open.
        assert_eq!(silent[0].read(&mut [0; 8]).await.unwrap_or(0), 0);
        for stream in &silent[1..] {
            let open = stream.try_read(&mut [0; 8]).unwrap_err();
            assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
        }
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}

#[tokio::test]
async fn peer_at_its_limit_is_refused_while_its_requests_run() {
    test(async |n| {
        let (router, gate) = gated();
        let server = Server::builder().max_connections_per_peer(2).build().unwrap();
        let (base, stop, serving) = serve(n, server.clone(), router).await;
        let mut busy = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            gate.called.notified().await;
            busy.push(stream);
        }
        let mut third = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
        assert_eq!(third.read(&mut [0; 8]).await.unwrap_or(0), 0, "it is closed");
        assert_eq!(server.stats().refused, 1);
        gate.open.add_permits(2);
        stop.cancel(enough());
        assert_eq!(serving.await.unwrap(), Served::All);
    })
    .await;
}
