use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::mutant;
use crate::resilience::{Charge, Retry, RetryDecision};

/// Makes a stream of a source that is opened again when it fails.
///
/// `open` is called for the first item, and after an error when the retry allows it and the wait is over; the source that
/// failed is dropped before the wait. An item counts as a success: with it the count of attempts begins anew. The stream
/// ends with its source, or with the error at which the retry gives up, as its last item.
///
/// Where a source goes on after it was opened again is for `open` to say, which may keep a position: what a source has
/// given before its error was given.
///
/// Of the [`Retry`] its attempts, backoff and budget are used. Its limits of time are for calls, not for streams, and have
/// no effect here; an item that may not be waited for longer is for `timeout` of tokio-stream.
///
/// # Drop
/// Between two attempts, the charge goes back to the budget.
///
/// # Examples
/// ```
/// use motet::resilience::Retry;
/// use motet::stream::{retry_source, try_generator};
/// use std::cell::Cell;
/// use tokio_stream::StreamExt as _;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
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
/// # });
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
        // Of the attempt that is waited for.
        charge: Option<Charge>,
        // Attempts since the last item, the one under way included.
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
                        // What fails next fails for the first time.
                        deposit(this.retry);
                    }
                    if !mutant!("stream.count_for_ever") {
                        *this.tries = 1;
                    }
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

/// A success earns something for later.
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
