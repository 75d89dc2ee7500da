use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;

use super::slot::Key;
use crate::sim;
use crate::sim::Site;

/// The handle with which the body of a generator emits items.
///
/// It belongs to one stream, and works while that stream polls its body: in the body itself, in futures that the body
/// awaits, and in generators within the body.
pub struct Yielder<T>(Key<T>);

impl<T> Yielder<T> {
    pub(super) fn new(key: Key<T>) -> Self {
        Self(key)
    }

    /// Yields an item to the reader of the stream, and waits until the reader asks for the next one.
    ///
    /// The future borrows the yielder, so that there is one item at a time, and items keep their order: two emits at once
    /// do not compile.
    ///
    /// # Cancel safety
    /// After its first poll, the reader receives the item also if the future is dropped, unless the item of an earlier emit
    /// that was dropped is still unread. A future that was never polled has emitted nothing, and drops its item.
    ///
    /// # Panics
    /// If it is polled while its stream does not poll its body: in another stream or task, on another thread, or after the
    /// stream was dropped.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use tokio_stream::StreamExt as _;
    /// let squares = motet::stream::generator(async |mut y| {
    ///     for number in 1..=3 {
    ///         y.emit(number * number).await;
    ///     }
    /// });
    /// assert_eq!(squares.collect::<Vec<_>>().await, [1, 4, 9]);
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0499
    /// let both = motet::stream::generator(async |mut y| {
    ///     tokio::join!(y.emit(1), y.emit(2)); // the order would be undefined
    /// });
    /// ```
    #[inline]
    #[track_caller]
    pub fn emit(&mut self, item: T) -> Emit<'_, T> {
        Emit {
            key: self.0.again(),
            yielder: PhantomData,
            item: Some(item),
            site: Site::new("generator", "emit"),
        }
    }

    /// Emits all items of a stream, and returns at its end.
    ///
    /// # Cancel safety
    /// The reader receives every item that was taken from the stream. The stream is dropped with the future, unless it is
    /// passed as `&mut stream`.
    ///
    /// # Panics
    /// As with [`emit`](Self::emit).
    ///
    /// # Examples
    /// ```
    /// use motet::stream::generator;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let framed = generator(async |mut y| {
    ///     y.emit(0).await;
    ///     y.emit_all(tokio_stream::iter([1, 2])).await;
    ///     y.emit(3).await;
    /// });
    /// assert_eq!(framed.collect::<Vec<_>>().await, [0, 1, 2, 3]);
    /// # }
    /// ```
    #[track_caller]
    pub fn emit_all<S: Stream<Item = T>>(&mut self, stream: S) -> impl Future<Output = ()> {
        sim::around("generator", "emit all", async move {
            let mut stream = pin!(stream);
            while let Some(item) = next(stream.as_mut()).await {
                self.emit(item).await;
            }
        })
    }

    /// Emits the items of a stream up to its first error.
    ///
    /// # Cancel safety
    /// As with [`emit_all`](Self::emit_all).
    ///
    /// # Errors
    /// The first error of the stream. No further item is taken from the stream.
    ///
    /// # Panics
    /// As with [`emit`](Self::emit).
    #[track_caller]
    pub fn try_emit_all<S, E>(&mut self, stream: S) -> impl Future<Output = Result<(), E>>
    where
        S: Stream<Item = Result<T, E>>,
    {
        sim::around("generator", "emit all", async move {
            let mut stream = pin!(stream);
            while let Some(item) = next(stream.as_mut()).await {
                self.emit(item?).await;
            }
            Ok(())
        })
    }
}

async fn next<S: Stream>(mut stream: Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|cx| stream.as_mut().poll_next(cx)).await
}

/// The future of [`Yielder::emit`].
#[must_use = "nothing is emitted unless it is awaited"]
#[allow(unnameable_types, reason = "users await it, and never write its type")]
pub struct Emit<'a, T> {
    key: Key<T>,
    yielder: PhantomData<&'a mut Yielder<T>>,
    /// The item, until the slot is empty.
    item: Option<T>,
    site: Site,
}

// The item is never pinned.
impl<T> Unpin for Emit<'_, T> {}

impl<T> Future for Emit<'_, T> {
    type Output = ();

    // Always inlined into the body: an emit is two of these calls.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<T> Emit<'_, T> {
    // Always inlined into the body: an emit is two of these calls.
    #[inline(always)]
    fn poll_here(mut self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<()> {
        let Self { key, item, .. } = &mut *self;
        key.poll_put(item, cx)
    }
}

impl<T> fmt::Debug for Yielder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Emit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").field("waits_for_slot", &self.item.is_some()).finish_non_exhaustive()
    }
}
