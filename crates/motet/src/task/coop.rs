//! Cooperative children: their token is cancelled, and they have a grace period to end.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::coop::has_budget_remaining;
use tokio::time::sleep;

use super::child::{Link, Sink};
use super::failure::Failure;
use super::timeout::poll_limit;
use super::{CancelToken, Name, TaskError};
use crate::mutant;

/// Runs the future of the task until it ends, or until the grace period after its cancellation is over.
pub(crate) async fn cooperative<F: Future>(
    task: Name,
    token: CancelToken,
    grace: Duration,
    future: F,
) -> Result<F::Output, TaskError> {
    let mut future = pin!(future);
    let mut out_of_grace = pin!(async {
        let reason = token.cancelled().await.clone();
        if mutant!("coop.endless_grace") {
            pending::<()>().await;
        }
        sleep(grace).await;
        reason
    });
    poll_fn(|cx| {
        let had_budget = has_budget_remaining();
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let over = poll_limit(out_of_grace.as_mut(), had_budget, cx);
        over.map(|reason| Err(TaskError::Cancelled { task: task.clone(), reason }))
    })
    .await
}

/// The sink of cooperative children.
pub(crate) struct Cooperative;

impl<T> Sink<Result<T, TaskError>> for Cooperative {
    type Out = Result<T, Failure<Infallible>>;

    fn returned(_: &Link<'_>, output: Result<T, TaskError>) -> Self::Out {
        output.map_err(Failure::Ended)
    }

    fn failed(failed: TaskError) -> Self::Out {
        Err(Failure::Ended(failed))
    }
}
