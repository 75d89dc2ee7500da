use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::mutant;
use crate::resilience::{Charge, Retry, RetryDecision};

/// Creates a stream from a source that is reopened when it fails.
///
/// `open` is called for the first item, and again after an error, if the retry allows it and the back-off has passed. The
/// failed source is dropped before the back-off. An item counts as a success: it resets the number of attempts. The
/// stream ends with its source, or with the error at which the retry gives up, as its last item.
///
/// Items that a source yielded before its error are not taken back. `open` decides where the next source continues, for
/// example from a position that it stores.
///
/// The attempts, back-off and budget of the [`Retry`] are used. Its timeouts are for calls, and have no effect on a
/// stream; for a timeout per item, use `timeout` of tokio-stream.
///
/// # Drop
/// If the stream is dropped during a back-off, the token of the next attempt is returned to the budget.
///
/// # Examples
/// ```
/// use motet::resilience::Retry;
/// use motet::stream::{retry_source, try_generator};
/// use std::cell::Cell;
/// use tokio_stream::StreamExt as _;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let (opened, position) = (&Cell::new(0), &Cell::new(0));
/// let lines = retry_source(Retry::new(), || {
///     opened.set(opened.get() + 1);
///     try_generator(async move |mut y| {
///         while position.get() < 4 {
///             if position.get() == 2 && opened.get() == 1 {
///                 return Err("connection reset");
///             }
///             let line = position.get();
///             position.set(line + 1);
///             y.emit(line).await;
///         }
///         Ok(())
///     })
/// });
/// assert_eq!(lines.collect::<Vec<_>>().await, [Ok(0), Ok(1), Ok(2), Ok(3)]);
/// assert_eq!(opened.get(), 2);
/// # }
/// ```
pub fn retry_source<O, S, T, E>(retry: Retry, open: O) -> RetrySource<O, S>
where
    O: FnMut() -> S,
    S: Stream<Item = Result<T, E>>,
{
    RetrySource { retry, open, source: None, wait: None, charge: None, tries: 0, over: false }
}

pin_project! {
    /// The stream of [`retry_source`].
    #[must_use = "a stream does nothing unless it is read"]
    pub struct RetrySource<O, S> {
        retry: Retry,
        open: O,
        #[pin]
        source: Option<S>,
        #[pin]
        wait: Option<Sleep>,
        // The charge of the next attempt, during the back-off.
        charge: Option<Charge>,
        // Attempts since the last item, including the current one.
        tries: u32,
        over: bool,
    }
}

impl<O, S, T, E> Stream for RetrySource<O, S>
where
    O: FnMut() -> S,
    S: Stream<Item = Result<T, E>>,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if *this.over {
                return Poll::Ready(None);
            }
            if let Some(wait) = this.wait.as_mut().as_pin_mut() {
                ready!(wait.poll(cx));
                this.wait.set(None);
                this.charge.take().into_iter().for_each(Charge::spend);
            }
            if this.source.is_none() {
                if *this.tries == 0 {
                    deposit(this.retry);
                }
                *this.tries += 1;
                this.source.set(Some((this.open)()));
            }
            let Some(source) = this.source.as_mut().as_pin_mut() else { continue };
            match ready!(source.poll_next(cx)) {
                Some(Ok(item)) => {
                    if *this.tries > 1 {
                        // The next error counts as the first one, so this item makes the deposit of a new operation.
                        deposit(this.retry);
                    }
                    if mutant!("stream.count_for_ever") {
                        return Poll::Ready(Some(Ok(item)));
                    }
                    *this.tries = 1;
                    return Poll::Ready(Some(Ok(item)));
                }
                Some(Err(error)) => {
                    this.source.set(None);
                    match this.retry.decide(*this.tries, None, None) {
                        RetryDecision::After(delay, charge) => {
                            *this.charge = charge;
                            this.wait.set(Some(sleep(delay)));
                        }
                        RetryDecision::GiveUp(_) => {
                            *this.over = true;
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
                None => {
                    *this.over = true;
                    this.source.set(None);
                }
            }
        }
    }
}

/// Adds the deposit of a success to the budget.
fn deposit(retry: &Retry) {
    if let Some(budget) = &retry.budget {
        budget.deposit();
    }
}

impl<O, S, T, E> FusedStream for RetrySource<O, S>
where
    O: FnMut() -> S,
    S: Stream<Item = Result<T, E>>,
{
    fn is_terminated(&self) -> bool {
        self.over
    }
}

impl<O, S> fmt::Debug for RetrySource<O, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetrySource")
            .field("retry", &self.retry)
            .field("tries", &self.tries)
            .field("waits", &self.wait.is_some())
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
