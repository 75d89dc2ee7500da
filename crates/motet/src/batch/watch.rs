//! Sees to the deadline of the open batch, and to the end of the scope: a task that is there while a batch is open.
//!
//! Not in the future of whoever opened the batch, which may be dropped; and not one for each batch: when the
//! deadline passes of a batch that is gone, it goes on with the one that is open.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

use super::shared::Shared;
use super::state::Watch;
use crate::task::CancelToken;
use crate::task::child::{Plain, Spec, launch};
use crate::task::gate::Class;

/// Starts it: a service, so that the scope does not wait for a deadline at its end.
pub(super) fn start<T, R, E>(shared: &Arc<Shared<T, R, E>>)
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + Sync + 'static,
{
    let token = CancelToken::new();
    let spec = Spec::told(shared.name.clone(), shared.site, Class::Service, token.clone());
    let watching = Watching(Some(Arc::clone(shared)));
    // Refused by a scope that has ended, it is dropped, and hands back what waits.
    drop(launch::<_, Plain>(&shared.scope.0, spec, watching.run(token)));
}

/// Has the open batch go if its deadline has passed. With nothing left to see to, the next batch gets another watch.
fn look<T, R, E>(shared: &Arc<Shared<T, R, E>>) -> Watch {
    let mut state = shared.state();
    let watch = state.watch(Instant::now());
    state.watched = watch != Watch::Done;
    shared.settle(state);
    watch
}

struct Watching<T, R, E>(Option<Arc<Shared<T, R, E>>>);

impl<T, R, E> Watching<T, R, E> {
    async fn run(mut self, token: CancelToken) {
        let Some(shared) = self.0.clone() else { return };
        let mut told = pin!(token.cancelled());
        let mut sleep = pin!(None::<Sleep>);
        loop {
            // Before the look, so that a change between the two is not missed.
            let mut changed = pin!(shared.watch.notified());
            let Watch::Until(deadline) = look(&shared) else {
                self.0 = None;
                return;
            };
            sleep.set(deadline.map(sleep_until));
            let ended = poll_fn(|cx| {
                if told.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                let late = sleep.as_mut().as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready());
                if late || changed.as_mut().poll(cx).is_ready() { Poll::Ready(false) } else { Poll::Pending }
            });
            if ended.await {
                break;
            }
        }
        // All else in the scope has ended. What is here runs, unless the scope was cancelled.
        if shared.scope.reason().is_none() {
            self.0 = None;
            let mut state = shared.state();
            state.close();
            shared.settle(state);
        }
    }
}

/// Cut off, or the scope was cancelled.
impl<T, R, E> Drop for Watching<T, R, E> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.abandon();
        }
    }
}
