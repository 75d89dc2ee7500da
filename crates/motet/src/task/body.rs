//! The body of a scope, run until it ends, is cancelled or is late.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Sleep, sleep_until};

use super::ambient::Inside;
use super::child::step;
use super::core::{Core, Level};
use super::timeout::poll_limit;
use super::{Reason, ReasonKind};
use crate::mutant;

/// How the body ended.
pub(crate) enum Ended<T, E> {
    Returned(Result<T, E>),
    Panicked(Box<dyn Any + Send>),
    Stopped,
}

pin_project! {
    /// The body, which ends at its next await when the scope is cancelled.
    pub(crate) struct Body<'a, B> {
        #[pin]
        body: Option<B>,
        core: &'a Arc<Core>,
        // Armed when the body first waits: a body that never does costs no timer.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<'a, B> Body<'a, B> {
    pub(crate) fn new(body: B, core: &'a Arc<Core>) -> Self {
        Self { body: Some(body), core, sleep: None }
    }
}

impl<B, T, E> Future for Body<'_, B>
where
    B: Future<Output = Result<T, E>>,
{
    type Output = Ended<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<T, E>> {
        let mut this = self.project();
        loop {
            let core = *this.core;
            let stop = core.reached(Level::Work);
            let had_budget = has_budget_remaining();
            let polled = {
                let _inside = Inside::enter(core);
                catch_unwind(AssertUnwindSafe(|| step(&mut this.body, stop, cx)))
            };
            match polled {
                Ok(Poll::Ready(Some(returned))) => return Poll::Ready(Ended::Returned(returned)),
                Ok(Poll::Ready(None)) => return Poll::Ready(Ended::Stopped),
                Err(payload) => return Poll::Ready(Ended::Panicked(payload)),
                Ok(Poll::Pending) => {}
            }
            core.gate.set_joiner(cx.waker());
            if core.reached(Level::Work) {
                // Cancelled before the waker was in place.
                continue;
            }
            let Some(at) = core.deadline else { return Poll::Pending };
            if mutant!("scope.unarmed_deadline") {
                return Poll::Pending;
            }
            if this.sleep.is_none() {
                this.sleep.set(Some(sleep_until(at)));
            }
            match this.sleep.as_mut().as_pin_mut().map(|sleep| poll_limit(sleep, had_budget, cx)) {
                Some(Poll::Ready(())) => core.raise(Level::Work, &Reason::of(ReasonKind::Deadline)),
                _ => return Poll::Pending,
            }
        }
    }
}
