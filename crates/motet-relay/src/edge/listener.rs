//! Accepting connections.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::write_deadline::WriteDeadline;

/// Connections at once; further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 4_096;

/// A client has this long to send a request's headers, and an idle connection this long to send any.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// A client that takes nothing of its answers for this long loses its connection.
const UNREAD_DEADLINE: Duration = Duration::from_secs(30);

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `stop` is ready; then lets requests under way finish, for up to `grace`.
///
/// Dropping the future closes every connection.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    let service = TowerToHyperService::new(router);
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        let connection = graceful.watch(
            http.serve_connection(TokioIo::new(WriteDeadline::new(stream, UNREAD_DEADLINE)), service.clone()),
        );
        connections.spawn(async move {
            let _permit = permit;
            connection.await
        });
    }
    drop(listener);
    if timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections whose requests did not finish");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small; waiting to fill a packet only adds delay.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection was gone before it was served");
            }
            Some((stream, permit))
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

fn report(ended: Result<hyper::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        Err(panicked) => tracing::error!(%panicked, "a request handler panicked"),
    }
}
