use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

/// Runs a future to its end, or to its panic, of which what it said is returned.
///
/// # Cancel safety
/// As of the future.
pub(super) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    let polled = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(said(&*panic))),
    });
    polled.await
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_is_returned_with_its_message() {
        assert_eq!(caught(async { 1 }).await, Ok(1));
        for (number, said) in [(2, "no 2"), (3, "a constant")] {
            let panics = async move {
                tokio::task::yield_now().await;
                if number == 2 { panic!("no {number}") } else { panic!("a constant") }
            };
            assert_eq!(caught(panics).await, Err::<(), _>(said.to_owned()));
        }
    }
}
