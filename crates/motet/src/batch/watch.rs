//! The watch: a task that exists while a batch is open. It starts the open batch at its deadline, and handles the end of
//! the scope.
//!
//! The future of the caller that opened the batch cannot do this, because it may be dropped. One watch serves all batches:
//! when the deadline of a batch passes that has already run, the watch continues with the open batch.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

use super::shared::BatchShared;
use super::state::Watch;
use crate::sync::Class;
use crate::task::CancelToken;
use crate::task::child::{Plain, Spec, launch};

/// Starts the watch as a service, so that the scope does not wait for a deadline at its end.
pub(super) fn start<T, R, E>(shared: &Arc<BatchShared<T, R, E>>)
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + Sync + 'static,
{
    let token = CancelToken::new();
    let spec = Spec::cooperative(shared.name.clone(), shared.site, Class::Service, token.clone());
    let watching = Watching(Some(Arc::clone(shared)));
    // If the scope has ended, the watch is dropped, and hands the waiting items back.
    drop(launch::<_, Plain>(&shared.scope.0, spec, watching.run(token)));
}

/// Marks the open batch as due if its deadline has passed. If no batch needs the watch any more, the next batch starts
/// another one.
fn look<T, R, E>(shared: &Arc<BatchShared<T, R, E>>) -> Watch {
    let mut state = shared.state();
    let watch = state.watch(Instant::now());
    state.watched = watch != Watch::Done;
    shared.settle(state);
    watch
}

struct Watching<T, R, E>(Option<Arc<BatchShared<T, R, E>>>);

impl<T, R, E> Watching<T, R, E> {
    async fn run(mut self, token: CancelToken) {
        let Some(shared) = self.0.clone() else { return };
        let mut cancelled = pin!(token.cancelled());
        let mut sleep = pin!(None::<Sleep>);
        loop {
            // Registered before the state is read, so that a change between the two is not missed.
            let mut changed = pin!(shared.watch.notified());
            let Watch::Until(deadline) = look(&shared) else {
                self.0 = None;
                return;
            };
            sleep.set(deadline.map(sleep_until));
            let ended = poll_fn(|cx| {
                if cancelled.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                let late = sleep.as_mut().as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready());
                if late || changed.as_mut().poll(cx).is_ready() { Poll::Ready(false) } else { Poll::Pending }
            });
            if ended.await {
                break;
            }
        }
        // All other tasks of the scope have ended. The waiting items run, unless the scope was cancelled.
        if shared.scope.reason().is_none() {
            self.0 = None;
            let mut state = shared.state();
            state.close();
            shared.settle(state);
        }
    }
}

/// The watch was dropped, or the scope was cancelled.
impl<T, R, E> Drop for Watching<T, R, E> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.abandon();
        }
    }
}
