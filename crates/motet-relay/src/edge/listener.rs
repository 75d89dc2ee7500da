//! Accepting connections.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use motet::resilience::{Bulkhead, BulkheadPermit};
use motet::task::{CancelToken, Either, Nursery, Policy, Reason, Scope, ScopeError, race, timeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::write_deadline::WriteDeadline;

/// Connections at once; further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 4_096;

/// A client has this long to send a request's headers, and an idle connection this long to send any.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// A client that takes nothing of its answers for this long loses its connection.
const UNREAD_DEADLINE: Duration = Duration::from_secs(30);

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until it is told to stop; then lets requests under way finish, for up to `grace`.
///
/// Dropping the future closes every connection.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancelToken, grace: Duration) {
    // A handler that panics ends its own connection, and no other.
    let connections = Scope::options().name("connections").policy(Policy::Isolate);
    let served = connections.run(async |n: &Nursery| {
        accept_all(n, listener, router, stop, grace).await;
        Ok(())
    });
    match served.await {
        Ok(()) | Err(ScopeError::Cancelled { .. }) => {}
        Err(error) => tracing::error!(%error, "the listener did not end in order"),
    }
}

async fn accept_all(
    connections: &Nursery,
    listener: TcpListener,
    router: Router,
    stop: CancelToken,
    grace: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    let service = TowerToHyperService::new(router);
    // One waits for a place: the accept loop, for as long as it takes.
    let places = Bulkhead::builder(MOST_CONNECTIONS).queue(1, Duration::MAX).build();
    let places = places.expect("a number of places that a semaphore counts");
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, place) = match race(stop.cancelled(), accept(&listener, &places)).await {
            Either::Left(_) => break,
            Either::Right(Some(accepted)) => accepted,
            Either::Right(None) => continue,
        };
        let connection = graceful.watch(
            http.serve_connection(TokioIo::new(WriteDeadline::new(stream, UNREAD_DEADLINE)), service.clone()),
        );
        drop(connections.spawn("connection", async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        }));
    }
    drop(listener);
    if timeout(grace, graceful.shutdown()).await.is_err() {
        let left = connections.snapshot().tasks.len();
        tracing::warn!(connections = left, "closing connections whose requests did not finish");
        connections.cancel(Reason::requested("their time is over"));
    }
}

async fn accept(listener: &TcpListener, places: &Bulkhead) -> Option<(TcpStream, BulkheadPermit<'static>)> {
    let place = places.acquire().await.ok()?.into_owned();
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small; waiting to fill a packet only adds delay.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection was gone before it was served");
            }
            Some((stream, place))
        }
        Err(error) => {
            let of_the_client = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused
            );
            if !of_the_client {
                tracing::error!(%error, "cannot accept connections; trying again");
                sleep(ACCEPT_RETRY).await;
            }
            None
        }
    }
}
