//! Opening a resource, in a task that nothing cancels.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::coop::has_budget_remaining;
use tokio::time::sleep;

use crate::task::timeout::poll_limit;

/// Opens the resource. Once the caller is gone, the opening has `limit` left, and is then dropped.
///
/// Dropping an open connection attempt half-way may leave something behind at the other end, so it is
/// not dropped with its caller.
pub(crate) async fn open<T, A>(
    opening: impl Future<Output = T>,
    caller: &mut oneshot::Sender<A>,
    limit: Duration,
) -> Option<T> {
    let mut opening = pin!(opening);
    let mut given_up = pin!(async {
        caller.closed().await;
        sleep(limit).await;
    });
    std::future::poll_fn(|cx| {
        let had_budget = has_budget_remaining();
        if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
            return Poll::Ready(Some(opened));
        }
        poll_limit(given_up.as_mut(), had_budget, cx).map(|()| {
            log_slow(limit);
            None
        })
    })
    .await
}

pub(super) fn log_slow(limit: Duration) {
    crate::log::warn!(?limit, "a resource took too long to open after its caller was gone, and was dropped");
}
