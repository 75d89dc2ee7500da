//! Panics of the dispatcher's tasks: a bug in one task must harm no other task.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

/// Runs a future to its end. Returns the message of the panic if the future panics.
///
/// # Cancel safety
/// The same as that of the future.
pub(super) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    let polled = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(message(&*panic))),
    });
    polled.await
}

/// Logs and counts the panic of a task of the dispatcher. The caller returns the slot and the delivery of the task.
pub(super) fn log_panic(task: &'static str, message: &str) {
    tracing::error!(task, message, "a task of the dispatcher panicked because of a bug");
    metrics::counter!("relay_tasks_died_total", "task" => task).increment(1);
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_is_returned_with_its_message() {
        assert_eq!(catch_panic(async { 1 }).await, Ok(1));
        for (number, message) in [(2, "no 2"), (3, "a constant")] {
            let panics = async move {
                tokio::task::yield_now().await;
                if number == 2 { panic!("no {number}") } else { panic!("a constant") }
            };
            assert_eq!(catch_panic(panics).await, Err::<(), _>(message.to_owned()));
        }
    }
}
