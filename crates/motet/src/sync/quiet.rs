//! Panics of the user's code that no caller receives: each ends here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::mutant;

/// Runs code of the user. If it panics, returns the message of the panic, which the panic hook has reported.
#[inline]
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(panic_words)
}

/// Drops a value of the user. A panic of its drop is logged, and does not propagate, since the caller may itself be the drop
/// of a guard during a panic.
pub(crate) fn quietly_drop<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        report(&panic);
    }
}

#[cold]
fn report(panic: &str) {
    crate::log::error!(panic, "a drop panicked");
}

pin_project! {
    /// A future whose drop does not panic. It is used where a future is cut off: no caller is left to receive the panic,
    /// which would unwind into other code.
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
            if let Err(panic) = catch(|| future.set(None)) {
                report(&panic);
            }
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

/// The message of a panic that is not rethrown. Drops the payload.
pub(crate) fn panic_words(payload: Box<dyn Any + Send>) -> String {
    let words = panic_message(&*payload).to_owned();
    // The drop of the payload may panic as well, and so may the drop of the payload of that panic, which is leaked.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        let _leaked = Box::leak(second);
    }
    words
}

/// The message of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a payload that is not text)")
}

#[cfg(test)]
mod tests {
    use std::panic::{panic_any, resume_unwind};

    use super::*;

    /// A payload whose drop panics with another such payload, down to the last one.
    struct Nested(u32);

    impl Drop for Nested {
        fn drop(&mut self) {
            if let Some(below) = self.0.checked_sub(1) {
                resume_unwind(Box::new(Self(below)));
            }
        }
    }

    #[test]
    fn catch_returns_the_text_of_a_panic() {
        assert_eq!(catch(|| panic_any("a bug")), Err::<(), _>("a bug".into()));
        assert_eq!(catch(|| resume_unwind(Box::new(String::from("text")))), Err::<(), _>("text".into()));
    }

    #[test]
    fn catch_and_quiet_drops_let_no_panic_of_a_drop_out() {
        let unknown = "(a payload that is not text)".to_owned();
        assert_eq!(catch(|| resume_unwind(Box::new(Nested(3)))), Err::<(), _>(unknown));
        quietly_drop(Nested(3));
        drop(Quiet::new(Nested(3)));
    }
}
