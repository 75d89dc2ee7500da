//! A panic as a value, for those who still have others to wait for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// A future whose panic is its output. It must not be polled after that.
    pub(crate) struct Caught<F> {
        #[pin]
        future: F,
    }
}

/// Drops what is a user's. A panic of that is one too many where the drop of a guard may be what it runs in; the panic
/// hook has shown it.
pub(crate) fn quietly_drop<T>(value: T) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(value))));
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
