//! The call of a listener, with its panics contained.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::ListenerErrorCause;
use crate::task::core::panic_words;

pub(super) type ListenerOutput = Result<(), Box<dyn Error + Send + Sync>>;
pub(super) type Future = Pin<Box<dyn std::future::Future<Output = ListenerOutput> + Send>>;

/// The future of a listener. Panics in its polls and in its drop do not propagate.
pub(super) struct ListenerCall(Option<Future>);

impl ListenerCall {
    pub(super) fn new(future: Future) -> Self {
        Self(Some(future))
    }
}

impl std::future::Future for ListenerCall {
    type Output = Result<(), ListenerErrorCause>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = run(|| {
            let future = self.0.as_mut().expect("a call is not polled after it has ended");
            let polled = future.as_mut().poll(cx);
            if polled.is_ready() {
                self.0 = None;
            }
            polled
        });
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(output.map_err(ListenerErrorCause::Failed)),
            Err(cause) => Poll::Ready(Err(cause)),
        }
    }
}

impl Drop for ListenerCall {
    fn drop(&mut self) {
        if let Some(future) = self.0.take() {
            let_go(future);
        }
    }
}

/// Calls a synchronous listener.
#[inline]
pub(super) fn call(listener: impl FnOnce() -> ListenerOutput) -> Result<(), ListenerErrorCause> {
    run(listener)?.map_err(ListenerErrorCause::Failed)
}

#[inline]
fn run<T>(code: impl FnOnce() -> T) -> Result<T, ListenerErrorCause> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| ListenerErrorCause::Panicked(panic_words(payload)))
}

/// Drops a value of the user: a panic in its drop is logged, and does not propagate.
pub(super) fn let_go<T>(theirs: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(theirs))) {
        let message = panic_words(payload);
        crate::log::error!(message, "the drop of a listener or of an event panicked");
    }
}
