//! The server over real sockets, with the clock held: the seed draws when it is stopped and when it is dropped.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use axum::Router;
use axum::routing::get;
use motet::task::{CancelToken, Nursery, Reason, drain, scope, unscoped};
use motet_http::{Served, Server};
use motet_testkit::sim::{Failure, Panics, SelfCheck, Sweep, real_io, sim};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::yield_now;

use super::{Driver, draw, passes, with};

pub(super) const DRIVER: Driver = Driver { drives: &["server::Server::serve"], cancel, sweep };

#[test]
fn server_dropped_after_any_of_12_polls_leaves_no_connection() {
    cancel();
}

#[test]
fn stopping_server_completes_every_answer_that_it_began() {
    passes(sweep);
}

/// Sends two requests over one connection; returns the number of responses that were begun, and of complete ones.
async fn ask(address: std::net::SocketAddr) -> (usize, usize) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return (0, 0) };
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2);
    if stream.write_all(request.as_bytes()).await.is_err() {
        return (0, 0);
    }
    let mut read = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        read.extend_from_slice(&piece[..length]);
        if read.windows(8).filter(|window| window == b"the body").count() == 2 {
            break;
        }
    }
    let text = String::from_utf8(read).unwrap();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 200"), "{text:?}");
    (text.matches("HTTP/1.1 200").count(), text.matches("the body").count())
}

fn routes(inside: &Arc<AtomicUsize>) -> Router {
    let inside = Arc::clone(inside);
    let answer = async move || {
        inside.fetch_add(1, Ordering::SeqCst);
        let _leaves = Leaves(inside);
        yield_now().await;
        "the body"
    };
    Router::new().route("/", get(answer))
}

struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn cancel() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // A server ends only when it is stopped, so the last of these drops has nothing in progress.
        for polls in 0..12 {
            let inside = Arc::new(AtomicUsize::new(0));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new();
            let router = routes(&inside);
            let ended = scope(async |n: &Nursery<Infallible>| {
                let asks = n.spawn("asks", ask(address));
                {
                    let mut serving = pin!(server.serve(listener, router, CancelToken::new()));
                    let mut left = polls;
                    poll_fn(|cx| {
                        if left == 0 {
                            return Poll::Ready(());
                        }
                        left -= 1;
                        assert!(serving.as_mut().poll(cx).is_pending(), "the server ended without a stop");
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                }
                asks.await.unwrap();
                Ok(())
            });
            ended.await.unwrap();
            drain().await;
            assert_eq!((unscoped(), inside.load(Ordering::SeqCst)), (0, 0), "after {polls} polls");
            assert_eq!(server.stats().connections, 0, "after {polls} polls");
        }
    });
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    let sweep = sim(|| {
        real_io(async {
            let inside = Arc::new(AtomicUsize::new(0));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = routes(&inside);
            let ended = scope(async |n: &Nursery<Infallible>| {
                let stop = CancelToken::new();
                let stopping = stop.clone();
                let serves =
                    n.spawn("serves", async move { Server::new().serve(listener, router, stopping).await });
                let asks: Vec<_> = (0..1 + draw(3)).map(|_| n.spawn("asks", ask(address))).collect();
                for _ in 0..draw(30) {
                    yield_now().await;
                }
                stop.cancel(Reason::requested("enough"));
                assert_eq!(serves.await.unwrap(), Served::All, "there was time");
                for asked in asks {
                    let (begun, complete) = asked.await.unwrap();
                    assert_eq!(begun, complete);
                }
                Ok(())
            });
            ended.await.unwrap();
            assert_eq!(inside.load(Ordering::SeqCst), 0);
        })
    })
    .seeds(40)
    .panics(Panics::Record)
    .with_io()
    .self_check(SelfCheck::Off);
    with(planted, sweep)
}
