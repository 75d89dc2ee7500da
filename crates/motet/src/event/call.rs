//! The call of a listener, with its panics contained.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::ListenerErrorCause;
use crate::sync::{catch, quietly_drop};

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
        let polled = catch(|| {
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
            Err(panic) => Poll::Ready(Err(ListenerErrorCause::Panicked(panic))),
        }
    }
}

impl Drop for ListenerCall {
    fn drop(&mut self) {
        if let Some(future) = self.0.take() {
            quietly_drop(future);
        }
    }
}

/// Calls a synchronous listener.
#[inline]
pub(super) fn call(listener: impl FnOnce() -> ListenerOutput) -> Result<(), ListenerErrorCause> {
    catch(listener).map_err(ListenerErrorCause::Panicked)?.map_err(ListenerErrorCause::Failed)
}
