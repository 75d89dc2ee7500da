//! A panic as a value, for callers that have to wait for other futures before they rethrow it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::core::panic_words;
use crate::mutant;

pin_project! {
    /// A future that returns a panic as its output. It must not be polled afterwards.
    pub(crate) struct Caught<F> {
        #[pin]
        future: F,
    }
}

pin_project! {
    /// A future whose drop does not panic. It is used where a future is cut off: no caller is left to receive the panic,
    /// which would unwind into other code. The panic hook has reported it.
    pub(crate) struct Quiet<F> {
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Quiet<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut future = this.project().future;
            if mutant!("caught.drop_loudly") {
                future.set(None);
            }
            quietly_drop(catch_unwind(AssertUnwindSafe(|| future.set(None))));
        }
    }
}

impl<F> Quiet<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(future) }
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = self.project().future.as_pin_mut() else { unreachable!("it goes with its drop") };
        future.poll(cx)
    }
}

/// Drops a value of a user. A panic of its drop is contained, since the caller may itself be the drop of a guard during a
/// panic. The panic hook has reported it.
pub(crate) fn quietly_drop<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // The drop of the payload may panic as well.
        let _words = panic_words(payload);
    }
}

impl<F> Caught<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}
