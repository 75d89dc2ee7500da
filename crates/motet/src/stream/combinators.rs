use std::num::NonZeroUsize;
use std::panic::Location;
use std::time::Duration;

use futures_core::Stream;

use super::broadcast::{Broadcast, broadcast};
use super::tasks::{ParMap, ParMapBatched, Spawned, spawned};
use super::{BufferAhead, ChunksWithin, Debounce, PipeTo, Until};
use crate::event::Lag;
use crate::queue::Sender;
use crate::task::{CancelToken, Name, Scope, ScopeClosedError};

/// What this library adds to every stream.
///
/// The names differ from those of futures and tokio-stream, so all of them can be in scope:
/// `use motet::stream::StreamCombinators as _`.
pub trait StreamCombinators: Stream {
    /// Has the stream read by a task of its own, up to `ahead` items before they are asked for.
    ///
    /// # When to use
    /// For a stream in which something happens: a [`generator`](super::generator()) is at rest while its reader is busy;
    /// in a task it goes on. And for a reader that waits for other things as well: what is taken from the source waits
    /// in the buffer. To buffer without a task, [`buffer_ahead`](Self::buffer_ahead).
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the stream, if the scope has ended.
    ///
    /// # Panics
    /// If `ahead` is zero.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::{StreamCombinators as _, generator};
    /// use motet::task::{Nursery, scope};
    /// use std::time::Duration;
    /// use tokio::time::{Instant, sleep};
    /// use tokio_stream::StreamExt as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let pages = generator(async |mut y| {
    ///         for page in 1..=5 {
    ///             sleep(Duration::from_millis(100)).await; // to fetch it
    ///             y.emit(page).await;
    ///         }
    ///     });
    ///     let (begun, mut pages) = (Instant::now(), pages.spawned(n, "pages", 4).expect("the scope is open"));
    ///     while let Some(_page) = pages.next().await {
    ///         sleep(Duration::from_millis(100)).await; // to work on it, while the next is fetched
    ///     }
    ///     assert_eq!(begun.elapsed(), Duration::from_millis(600));
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    fn spawned(
        self,
        scope: &Scope,
        name: impl Into<Name>,
        ahead: usize,
    ) -> Result<Spawned<Self::Item>, ScopeClosedError<Self>>
    where
        Self: Sized + Send + 'static,
        Self::Item: Send + 'static,
    {
        spawned(self, scope, name.into(), ahead, Location::caller())
    }

    /// Applies a function to all items, so many at once, in tasks of a scope: on all cores.
    ///
    /// Its [`ordered`](ParMap::ordered) and [`unordered`](ParMap::unordered) start the workers. A worker takes as many
    /// items at once as it is through with in about fifty microseconds, at most 64; when one of them has to wait, it
    /// gives those behind it back to the other workers. So work that waits is done item by item, `workers` at once,
    /// and work that does not costs a few nanoseconds an item more than the work.
    ///
    /// # When to use
    /// `buffered` of futures runs in the task of the reader, on one core, and stands still while the reader is busy;
    /// it may borrow, and needs no scope. An item that computes for long without an await holds up those that its worker
    /// has taken with it: at most 63 that were expected to be quick.
    ///
    /// # Panics
    /// If `workers` is zero.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{Nursery, scope};
    /// use std::time::Duration;
    /// use tokio::time::sleep;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let sizes = tokio_stream::iter([30, 10, 20]).par_map(3, async |millis| {
    ///         sleep(Duration::from_millis(millis)).await;
    ///         millis
    ///     });
    ///     let sizes = sizes.unordered(n, "sizes").expect("the scope is open");
    ///     assert_eq!(sizes.collect::<Vec<_>>().await, [10, 20, 30]);
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
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

    /// Applies a function to batches of items, so many batches at once, in tasks of a scope.
    ///
    /// A batch is what the stream has ready, at most `max_items`: none waits for items to come. The function gives the
    /// results of a batch, as many as it likes, which are read one by one.
    ///
    /// # When to use
    /// Where several items together cost little more than one: a statement, a request. Where a batch may wait to become
    /// larger: [`chunks_within`](Self::chunks_within), and [`par_map`](Self::par_map) of that.
    ///
    /// # Panics
    /// If `workers` or `max_items` is zero.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{Nursery, scope};
    /// use tokio_stream::StreamExt as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let doubled = tokio_stream::iter(1..=5).par_map_batched(2, 2, async |batch: Vec<u32>| {
    ///         batch.into_iter().map(|number| number * 2).collect()
    ///     });
    ///     let doubled = doubled.ordered(n, "doubled").expect("the scope is open");
    ///     assert_eq!(doubled.collect::<Vec<_>>().await, [2, 4, 6, 8, 10]);
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
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

    /// Gathers items into chunks: of `max_items`, or of what came within the given time from the first item of the
    /// chunk on.
    ///
    /// No later item prolongs it. A chunk is never empty; the last one comes at the end of the stream. A chunk that is
    /// full at once costs no timer. With zero, a chunk is what the stream has ready; [`Duration::MAX`] waits for full ones.
    ///
    /// # Drop
    /// What was gathered is dropped with it. [`spawned`](Self::spawned) before it keeps that small, and
    /// [`batch`](crate::batch) answers each item.
    ///
    /// # Panics
    /// If `max_items` is zero. When it is polled outside of a runtime with time, if a chunk has to wait.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::{StreamCombinators as _, generator};
    /// use std::time::Duration;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let ticks = generator(async |mut y| {
    ///     for tick in 0..7 {
    ///         y.emit(tick).await;
    ///         if tick >= 3 {
    ///             tokio::time::sleep(Duration::from_millis(20)).await;
    ///         }
    ///     }
    /// });
    /// let chunks = ticks.chunks_within(3, Duration::from_millis(50));
    /// assert_eq!(chunks.collect::<Vec<_>>().await, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    /// # });
    /// ```
    #[track_caller]
    fn chunks_within(self, max_items: usize, within: Duration) -> ChunksWithin<Self>
    where
        Self: Sized,
    {
        ChunksWithin::new(self, max_items, within)
    }

    /// Ends the stream when a token is cancelled, and drops the source then.
    ///
    /// # When to use
    /// For a reader that is to come to its end in good order. One that may be dropped needs nothing: its scope does it.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{CancelToken, Reason};
    /// use tokio_stream::StreamExt as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let token = CancelToken::new();
    /// let mut numbers = tokio_stream::iter(1..).until(token.clone());
    /// assert_eq!(numbers.next().await, Some(1));
    /// token.cancel(Reason::requested("one is enough"));
    /// assert_eq!(numbers.next().await, None);
    /// # });
    /// ```
    fn until(self, token: CancelToken) -> Until<Self>
    where
        Self: Sized,
    {
        Until::new(self, token)
    }

    /// Takes all that the stream has ready, up to so many items, whenever it is polled.
    ///
    /// Nothing runs while nobody polls; but a source that has work in flight, as one of `buffered`, has the places of
    /// what is done free again for more. For a task that reads on meanwhile: [`spawned`](Self::spawned).
    ///
    /// # Panics
    /// If `ahead` is zero.
    #[track_caller]
    fn buffer_ahead(self, ahead: usize) -> BufferAhead<Self>
    where
        Self: Sized,
    {
        BufferAhead::new(self, ahead)
    }

    /// Gives an item once none has come after it for so long; what came shortly before is dropped.
    ///
    /// For changes of which only the last counts: of a file, of a field that is typed into. A stream that is never quiet
    /// gives nothing until its end, when the last item comes at once. With zero, an item is given as soon as the stream has no
    /// other ready; with [`Duration::MAX`], at the end alone.
    ///
    /// # Panics
    /// When it is polled outside of a runtime with time, once there is an item.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::{StreamCombinators as _, generator};
    /// use std::time::Duration;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let typed = generator(async |mut y| {
    ///     for (text, pause) in [("m", 10), ("mo", 10), ("mot", 500), ("mote", 10), ("motet", 0)] {
    ///         y.emit(text).await;
    ///         tokio::time::sleep(Duration::from_millis(pause)).await;
    ///     }
    /// });
    /// let searched = typed.debounce(Duration::from_millis(100));
    /// assert_eq!(searched.collect::<Vec<_>>().await, ["mot", "motet"]);
    /// # });
    /// ```
    fn debounce(self, quiet: Duration) -> Debounce<Self>
    where
        Self: Sized,
    {
        Debounce::new(self, quiet)
    }

    /// Gives every item to several readers; a task of the scope reads the stream.
    ///
    /// Each reader gets every item from the first on, in order, or hears in their place how many it has missed: what
    /// becomes of an item for which a reader has no room the [`Lag`] says. A clone of a reader is one more.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the stream, if the scope has ended.
    ///
    /// # Examples
    /// ```
    /// use motet::event::Lag;
    /// use motet::stream::StreamCombinators as _;
    /// use motet::task::{Nursery, scope};
    /// use std::num::NonZeroUsize;
    /// use tokio_stream::StreamExt as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let two = NonZeroUsize::new(2).unwrap();
    ///     let prices = tokio_stream::iter([3, 5, 4]);
    ///     let readers = prices.broadcast(n, "prices", two, Lag::Wait(two)).expect("the scope is open");
    ///     let tasks: Vec<_> = readers.into_iter().map(|prices| {
    ///         n.spawn("reads", prices.map(|price| *price.expect("nothing is missed")).collect::<Vec<_>>())
    ///     }).collect();
    ///     for task in tasks {
    ///         assert_eq!(task.await.unwrap(), [3, 5, 4]);
    ///     }
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    fn broadcast(
        self,
        scope: &Scope,
        name: impl Into<Name>,
        readers: NonZeroUsize,
        lag: Lag,
    ) -> Result<Vec<Broadcast<Self::Item>>, ScopeClosedError<Self>>
    where
        Self: Sized + Send + 'static,
        Self::Item: Send + Sync + 'static,
    {
        broadcast(self, (scope, name.into(), Location::caller()), readers.get(), lag)
    }

    /// Sends all items into a queue, and gives how many there were, at the end of the stream.
    ///
    /// The other way round, a [`Receiver`](crate::queue::Receiver) is a stream. The queue is not closed with the
    /// stream; but its sender is dropped with the future.
    ///
    /// # Cancel safety
    /// Safe as long as it is awaited as `&mut` of a pinned one: what has no place yet is kept. Dropped, it drops the
    /// stream, with at most one item that it has taken; those that it counts as [`sent`](PipeTo::sent) are in the queue.
    ///
    /// # Errors
    /// [`SendError`](crate::queue::SendError), if the queue is closed, now or while it waits: with the item that was
    /// taken for it, if there was one. The stream is dropped.
    ///
    /// # Panics
    /// If it is polled after its end.
    ///
    /// # Examples
    /// ```
    /// use motet::stream::StreamCombinators as _;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sender, receiver) = motet::queue::bounded(8);
    /// assert_eq!(tokio_stream::iter([1, 2, 3]).pipe_to(sender).await.unwrap(), 3);
    /// assert_eq!((receiver.len(), receiver.is_closed()), (3, true));
    /// # });
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
