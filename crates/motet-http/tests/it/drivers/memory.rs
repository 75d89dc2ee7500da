//! A whole service in memory: router, server, client and their connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::put;
use motet::task::{CancelToken, Nursery, Reason, Scope, scope, timeout};
use motet_http::{ApiClient, Listener as _, MemoryConnector, MemoryListener, Served, Server};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::sync::Mutex;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::backend::no_tls;
use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver { drives: &["server::MemoryConnector::connect"], cancel, sweep };

/// The number of connections that wait to be accepted.
const BACKLOG: usize = 128;

#[test]
fn connect_in_memory_dropped_anywhere_leaves_every_slot() {
    cancel();
}

#[test]
fn whole_service_counts_each_request_once_and_ends() {
    passes(sweep);
}

fn cancel() {
    cancel_everywhere(
        async || {
            let (listener, connector) = MemoryListener::new();
            for _ in 0..BACKLOG {
                drop(connector.connect().await.unwrap());
            }
            (Mutex::new(Some(listener)), connector)
        },
        async |(listener, connector)| {
            let mut listener = listener.lock().await;
            let accept = async {
                yield_now().await;
                listener.as_mut().unwrap().accept().await.unwrap();
            };
            let (connected, ()) = tokio::join!(connector.connect(), accept);
            connected.unwrap();
        },
        async |(listener, connector), _| {
            let mut listener = listener.lock().await.take().unwrap();
            while timeout(millis(1), listener.accept()).await.is_ok() {}
            for _ in 0..BACKLOG {
                timeout(millis(1), connector.connect()).await.expect("a slot is lost").unwrap();
            }
            assert_eq!(listener.close(usize::MAX).len(), BACKLOG);
            assert!(connector.connect().await.is_err());
        },
    );
}

/// Counts the requests of each user, and takes its time.
fn routes(counts: &Arc<[AtomicUsize; 3]>) -> Router {
    async fn count(State(counts): State<Arc<[AtomicUsize; 3]>>, Path(user): Path<usize>) -> String {
        let before = counts[user].fetch_add(1, Ordering::SeqCst);
        sleep(millis(draw(20))).await;
        (before + 1).to_string()
    }
    Router::new().route("/users/{user}", put(count)).with_state(Arc::clone(counts))
}

fn client(scope: &Scope, connector: MemoryConnector) -> ApiClient {
    let api = ApiClient::builder(scope).base_url("http://service").tls(no_tls());
    api.connect_by(move |_| connector.connect()).build().unwrap()
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let counts = Arc::new([const { AtomicUsize::new(0) }; 3]);
        let router = routes(&counts);
        let (listener, connector) = MemoryListener::new();
        let ended = scope(async |n: &Nursery<Infallible>| {
            let stop = CancelToken::new();
            let stopping = stop.clone();
            let serves =
                n.spawn("serves", async move { Server::new().serve(listener, router, stopping).await });
            let api = client(n, connector);
            let callers = (0..3).map(|user| {
                let api = api.clone();
                n.spawn("calls", async move {
                    for number in 1..=1 + draw(4) {
                        sleep(millis(draw(10))).await;
                        let seen: u64 = api.put(&format!("/users/{user}")).fetch_json().await.unwrap();
                        assert_eq!(seen, number, "user {user}");
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.unwrap();
            }
            stop.cancel(Reason::requested("enough"));
            assert_eq!(serves.await.unwrap(), Served::All);
            assert!(api.get("/").once().send().await.unwrap_err().is_connect(), "the listener is closed");
            Ok(())
        });
        ended.await.unwrap();
    })
}
