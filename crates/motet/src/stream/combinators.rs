use std::num::NonZeroUsize;
use std::panic::Location;
use std::time::Duration;

use futures_core::Stream;

use super::broadcast::{Broadcast, broadcast};
use super::error::{SetupProblem, StreamSetupError};
use super::tasks::{ParMap, ParMapBatched, Spawned, spawned};
use super::{BufferAhead, ChunksWithin, Debounce, PipeTo, Until};
use crate::event::Lag;
use crate::queue::Sender;
use crate::task::{CancelToken, Name, Scope};

/// The combinators that this library adds to every stream.
///
/// Their names differ from those of futures and tokio-stream, so all traits can be imported together:
/// `use motet::stream::StreamCombinators as _`.
pub trait StreamCombinators: Stream {
    /// Reads the stream in a task of the scope, up to `ahead` items before the reader asks for them.
    ///
    /// # When to use
    /// For a stream that does work: a [`generator`](super::generator()) makes no progress while its reader is busy, and in
    /// a task it does. Also for a reader that waits for other events as well: items of the source wait in the buffer. To
    /// buffer without a task, use [`buffer_ahead`](Self::buffer_ahead).
    ///
    /// # Errors
    /// [`StreamSetupError`] with the stream, if the scope has ended or `ahead` is zero.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::{StreamCombinators as _, generator};
    /// use motet::task::{Nursery, scope};
    /// use std::time::Duration;
    /// use tokio::time::{Instant, sleep};
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let pages = generator(async |mut y| {
    ///         for page in 1..=5 {
    ///             sleep(Duration::from_millis(100)).await; // the time to fetch it
    ///             y.emit(page).await;
    ///         }
    ///     });
    ///     let (begun, mut pages) = (Instant::now(), pages.spawned(n, "pages", 4).expect("the scope is open"));
    ///     while let Some(_page) = pages.next().await {
    ///         sleep(Duration::from_millis(100)).await; // the next page is fetched at the same time
    ///     }
    ///     assert_eq!(begun.elapsed(), Duration::from_millis(600));
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn spawned(
        self,
        scope: &Scope,
        name: impl Into<Name>,
        ahead: usize,
    ) -> Result<Spawned<Self::Item>, StreamSetupError<Self>>
    where
        Self: Sized + Send + 'static,
        Self::Item: Send + 'static,
    {
        spawned(self, scope, name.into(), ahead, Location::caller())
    }

    /// Applies a function to all items, in `workers` tasks of a scope, on all cores.
    ///
    /// [`ordered`](ParMap::ordered) and [`unordered`](ParMap::unordered) start the workers. A worker takes as many items
    /// at once as it processes in about 50 µs, at most 64. When the function has to wait, the worker hands the items that
    /// it has not begun back to the other workers. So calls that wait run one item per worker, and calls that do not wait
    /// cost a few nanoseconds per item.
    ///
    /// # When to use
    /// `buffered` of futures runs in the task of the reader, on one core, and makes no progress while the reader is busy;
    /// its futures may borrow, and it needs no scope. A function that computes for long without an await delays the items
    /// that its worker has taken: at most 63, which were expected to be fast.
    ///
    /// # Errors
    /// [`ParMap::ordered`] and [`ParMap::unordered`] return an error if `workers` is zero.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{Nursery, scope};
    /// use std::time::Duration;
    /// use tokio::time::sleep;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let sizes = tokio_stream::iter([30, 10, 20]).par_map(3, async |millis| {
    ///         sleep(Duration::from_millis(millis)).await;
    ///         millis
    ///     });
    ///     let sizes = sizes.unordered(n, "sizes").expect("the scope is open");
    ///     assert_eq!(sizes.collect::<Vec<_>>().await, [10, 20, 30]);
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn par_map<F, Fut>(self, workers: usize, map: F) -> ParMap<Self, F>
    where
        Self: Sized,
        F: Fn(Self::Item) -> Fut,
        Fut: Future,
    {
        ParMap::new(self, workers, map)
    }

    /// Applies a function to batches of items, in `workers` tasks of a scope.
    ///
    /// A batch contains the items that the stream has ready, at most `max_items`; it does not wait for further items. The
    /// function returns the results of a batch, in any number, and the reader receives them one by one.
    ///
    /// # When to use
    /// Where several items cost little more than one, such as rows of a statement. To let a batch wait for further items,
    /// use [`par_map`](Self::par_map) on [`chunks_within`](Self::chunks_within).
    ///
    /// # Errors
    /// [`ParMapBatched::ordered`] and [`ParMapBatched::unordered`] return an error if `workers` or `max_items` is zero.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{Nursery, scope};
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let doubled = tokio_stream::iter(1..=5).par_map_batched(2, 2, async |batch: Vec<u32>| {
    ///         batch.into_iter().map(|number| number * 2).collect()
    ///     });
    ///     let doubled = doubled.ordered(n, "doubled").expect("the scope is open");
    ///     assert_eq!(doubled.collect::<Vec<_>>().await, [2, 4, 6, 8, 10]);
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn par_map_batched<F, Fut, O>(self, workers: usize, max_items: usize, map: F) -> ParMapBatched<Self, F>
    where
        Self: Sized,
        F: Fn(Vec<Self::Item>) -> Fut,
        Fut: Future<Output = Vec<O>>,
    {
        ParMapBatched::new(self, workers, max_items, map)
    }

    /// Collects items into chunks. A chunk is complete when it has `max_items` items, or `within` after its first item.
    ///
    /// Later items do not extend the time. A chunk is never empty; the last one is yielded at the end of the stream. A
    /// chunk that is full at once starts no timer. If `within` is zero, a chunk contains the items that the stream has
    /// ready; with [`Duration::MAX`], every chunk but the last one is full.
    ///
    /// # Errors
    /// [`StreamSetupError`] with the stream, if `max_items` is zero.
    ///
    /// # Drop
    /// The items of the current chunk are dropped. To answer the caller of each item, use [`batch`](crate::batch).
    ///
    /// # Panics
    /// If it is polled outside of a runtime with timers while a chunk waits.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::{StreamCombinators as _, generator};
    /// use std::time::Duration;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ticks = generator(async |mut y| {
    ///     for tick in 0..7 {
    ///         y.emit(tick).await;
    ///         if tick >= 3 {
    ///             tokio::time::sleep(Duration::from_millis(20)).await;
    ///         }
    ///     }
    /// });
    /// let chunks = ticks.chunks_within(3, Duration::from_millis(50))?;
    /// assert_eq!(chunks.collect::<Vec<_>>().await, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    /// # Ok(())
    /// # }
    /// ```
    fn chunks_within(
        self,
        max_items: usize,
        within: Duration,
    ) -> Result<ChunksWithin<Self>, StreamSetupError<Self>>
    where
        Self: Sized,
    {
        match max_items {
            0 => Err(StreamSetupError { stream: self, problem: SetupProblem::Zero("max_items") }),
            _ => Ok(ChunksWithin::new(self, max_items, within)),
        }
    }

    /// Ends the stream when the token is cancelled, and drops the source at that time.
    ///
    /// # When to use
    /// For a reader that has work to do after the last item. A reader that may be dropped needs no token, since its scope
    /// drops it.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{CancelToken, Reason};
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let token = CancelToken::new();
    /// let mut numbers = tokio_stream::iter(1..).until(token.clone());
    /// assert_eq!(numbers.next().await, Some(1));
    /// token.cancel(Reason::requested("one is enough"));
    /// assert_eq!(numbers.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    fn until(self, token: CancelToken) -> Until<Self>
    where
        Self: Sized,
    {
        Until::new(self, token)
    }

    /// Takes all items that the stream has ready, up to `ahead`, whenever it is polled.
    ///
    /// The stream is only polled by its reader. But a source with work in flight, such as `buffered`, can start further
    /// work as soon as its finished items are in the buffer. To read while the reader is busy, use
    /// [`spawned`](Self::spawned). If `ahead` is zero, nothing is buffered.
    fn buffer_ahead(self, ahead: usize) -> BufferAhead<Self>
    where
        Self: Sized,
    {
        BufferAhead::new(self, ahead)
    }

    /// Yields an item when no other item has followed it for `quiet`, and drops the items before it.
    ///
    /// For changes of which only the last one counts, such as those of a file or of an input field. A stream that is never
    /// quiet yields only its last item, at its end. If `quiet` is zero, an item is yielded as soon as the stream has no
    /// other item ready; with [`Duration::MAX`], only at the end.
    ///
    /// # Panics
    /// If it is polled outside of a runtime with timers, once there is an item.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::{StreamCombinators as _, generator};
    /// use std::time::Duration;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let typed = generator(async |mut y| {
    ///     for (text, pause) in [("m", 10), ("mo", 10), ("mot", 500), ("mote", 10), ("motet", 0)] {
    ///         y.emit(text).await;
    ///         tokio::time::sleep(Duration::from_millis(pause)).await;
    ///     }
    /// });
    /// let searched = typed.debounce(Duration::from_millis(100));
    /// assert_eq!(searched.collect::<Vec<_>>().await, ["mot", "motet"]);
    /// # Ok(())
    /// # }
    /// ```
    fn debounce(self, quiet: Duration) -> Debounce<Self>
    where
        Self: Sized,
    {
        Debounce::new(self, quiet)
    }

    /// Passes every item to several readers. A task of the scope reads the stream.
    ///
    /// Each reader receives every item from the first one, in order. [`Lag`] defines what happens when the buffer of a
    /// reader is full: the source waits, or the reader receives the number of dropped items in their place. A clone of a
    /// reader is a further reader.
    ///
    /// # Errors
    /// [`StreamSetupError`] with the stream, if the scope has ended.
    ///
    /// # Examples
    /// ```
    /// use motet::event::Lag;
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{Nursery, scope};
    /// use std::num::NonZeroUsize;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let two = NonZeroUsize::new(2).unwrap();
    ///     let prices = tokio_stream::iter([3, 5, 4]);
    ///     let readers = prices.broadcast(n, "prices", two, Lag::Wait(two)).expect("the scope is open");
    ///     let tasks: Vec<_> = readers.into_iter().map(|prices| {
    ///         n.spawn("reads", prices.map(|price| *price.expect("no item is dropped")).collect::<Vec<_>>())
    ///     }).collect();
    ///     for task in tasks {
    ///         assert_eq!(task.await.unwrap(), [3, 5, 4]);
    ///     }
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn broadcast(
        self,
        scope: &Scope,
        name: impl Into<Name>,
        readers: NonZeroUsize,
        lag: Lag,
    ) -> Result<Vec<Broadcast<Self::Item>>, StreamSetupError<Self>>
    where
        Self: Sized + Send + 'static,
        Self::Item: Send + Sync + 'static,
    {
        broadcast(self, (scope, name.into(), Location::caller()), readers.get(), lag)
    }

    /// Sends all items into a queue, and returns their number at the end of the stream.
    ///
    /// In the other direction, a [`Receiver`](crate::queue::Receiver) is a stream. The end of the stream does not close
    /// the queue, but the sender is dropped with the future.
    ///
    /// # Cancel safety
    /// Safe if it is awaited as `&mut` of a pinned future: it keeps an item that the queue has no capacity for. Dropping
    /// the future drops the stream, and at most one item that was taken from it; the items counted by
    /// `sent()` of the future are in the queue.
    ///
    /// # Errors
    /// [`SendError`](crate::queue::SendError) if the queue is closed, at the call or while it waits, with the item that was
    /// taken from the stream, if any. The stream is dropped.
    ///
    /// # Panics
    /// If it is polled after it has completed.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = motet::queue::bounded(8)?;
    /// assert_eq!(tokio_stream::iter([1, 2, 3]).pipe_to(sender).await.unwrap(), 3);
    /// assert_eq!((receiver.len(), receiver.is_closed()), (3, true));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn pipe_to(self, sender: Sender<Self::Item>) -> PipeTo<Self>
    where
        Self: Sized,
    {
        PipeTo::new(self, sender)
    }
}

impl<S: Stream + ?Sized> StreamCombinators for S {}
