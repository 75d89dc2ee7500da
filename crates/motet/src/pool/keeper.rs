//! The keeper: the service that reads the clock for a pool. It closes connections that are too old or idle for too long,
//! ends waits that take too long, and starts the next connect after a failed one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};

use super::manager::Manager;
use super::shared::PoolShared;
use crate::task::finalizer;

/// Belongs to the task of the keeper. When it is dropped, because the scope cancels its services, the pool opens no more
/// connections.
pub(super) struct Keeper<M: Manager>(pub(super) Arc<PoolShared<M>>);

impl<M: Manager> Drop for Keeper<M> {
    fn drop(&mut self) {
        self.0.change(|state, todo| state.end(todo));
    }
}

pub(super) async fn keep<M: Manager>(keeper: Keeper<M>) {
    let shared = &keeper.0;
    let mut alarm = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        loop {
            let (now, waker) = (Instant::now(), cx.waker().clone());
            let (at, is_over, former) = shared.change(|state, todo| {
                let (at, former) = state.keep(now, waker, todo);
                (at, state.is_over(), former)
            });
            drop(former);
            if is_over {
                return Poll::Ready(());
            }
            let Some(at) = at else { return Poll::Pending };
            alarm.as_mut().reset(at);
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
    shared.retire();
}

impl<M: Manager> PoolShared<M> {
    /// Removes a pool without connections from its scope.
    pub(super) fn retire(&self) {
        if let Some(id) = self.release_id.get() {
            drop(finalizer::take(&self.core, *id));
        }
        let shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        drop(shown);
    }
}
