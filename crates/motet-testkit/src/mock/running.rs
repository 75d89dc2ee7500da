use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::coop;
use tokio::time::{self, Instant};

use super::state::Shared;
use super::step::{Plan, Step};
use super::{Outcome, PendingCall};

/// A call in progress. Its drop ends the call.
pub(super) struct Running<'a, A, R> {
    shared: &'a Shared<A, R>,
    index: usize,
    /// The outcome if the call ends now.
    outcome: Outcome,
}

impl<'a, A, R> Running<'a, A, R> {
    /// Records a call and returns the step that answers it, if there is one.
    pub(super) fn begin(shared: &'a Shared<A, R>, args: &Arc<A>) -> (Self, Option<Step<A, R>>) {
        let now = Instant::now();
        let (index, step, then) = {
            let mut state = shared.lock();
            let step = state.steps.pop_front();
            let then = if step.is_none() { state.then.clone() } else { None };
            let label = match (&step, &then) {
                (Some(step), _) => step.label,
                (None, Some(_)) => "then",
                (None, None) => "no step left",
            };
            (state.begin(args, label, now), step, then)
        };
        // Foreign code: not under the lock, and its panic ends this call.
        let mut running = Self { shared, index, outcome: Outcome::Panicked };
        let step = step.or_else(|| then.map(|make| make()));
        if let Some(step) = &step {
            shared.lock().calls[index].step = step.label;
        }
        running.outcome = Outcome::Cancelled;
        (running, step)
    }

    /// Ends the call as panicked, for a caller that is about to panic.
    pub(super) fn panicked(mut self) {
        self.outcome = Outcome::Panicked;
    }

    /// Runs the step.
    pub(super) async fn answer(mut self, step: Step<A, R>, args: &Arc<A>) -> R
    where
        A: fmt::Debug,
    {
        // Without this, an answer that is ready would be no suspension point, and a simulator could not cancel or delay
        // the caller here.
        coop::consume_budget().await;
        if !step.delay.is_zero() {
            time::sleep(step.delay).await;
        }
        let value = match step.plan {
            Plan::Value(value) => value,
            Plan::Pending => std::future::pending().await,
            Plan::Panics(text) => {
                self.panicked();
                panic!("{text}")
            }
            Plan::Call(function) => {
                let mut answer = pin!(async { function(args).await });
                poll_fn(|cx| {
                    // Set only while foreign code runs: the call can end here only by a panic of that code.
                    self.outcome = Outcome::Panicked;
                    let answer = answer.as_mut().poll(cx);
                    self.outcome = Outcome::Cancelled;
                    answer
                })
                .await
            }
            Plan::OnDemand => match self.ask(args).await {
                Ok(value) => value,
                Err(_) => {
                    let (name, number) = (&self.shared.name, self.index + 1);
                    self.panicked();
                    panic!(
                        "call {number} of mock `{name}`, with {args:?}, was taken by `next_call` and dropped \
                         without a reply: answer it with `reply`"
                    )
                }
            },
        };
        self.outcome = Outcome::Returned;
        value
    }

    fn ask(&self, args: &Arc<A>) -> oneshot::Receiver<R> {
        let (reply, answer) = oneshot::channel();
        self.shared.lock().asked.push_back(PendingCall { args: Arc::clone(args), reply });
        self.shared.arrived.notify_one();
        answer
    }
}

impl<A, R> Drop for Running<'_, A, R> {
    fn drop(&mut self) {
        // tokio's clock panics after the destruction of the thread's locals; a drop must not.
        let now = match Handle::try_current() {
            Err(error) if error.is_thread_local_destroyed() => None,
            _ => Some(Instant::now()),
        };
        self.shared.lock().end(self.index, self.outcome, now);
    }
}
