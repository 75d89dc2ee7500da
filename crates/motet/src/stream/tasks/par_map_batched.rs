use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::par_map::ParMap;
use super::spawned::Spawned;
use super::state::Order;
use crate::stream::error::{SetupProblem, StreamSetupError};
use crate::task::{Name, Reason, Scope};

/// The settings of workers that apply a function to batches of items: see
/// [`par_map_batched`](crate::stream::StreamCombinators::par_map_batched).
#[must_use = "`ordered` or `unordered` starts the workers"]
pub struct ParMapBatched<S, F>(ParMap<Batches<S>, F>);

impl<S: Stream, F> ParMapBatched<S, F> {
    pub(crate) fn new(source: S, workers: usize, max_items: usize, map: F) -> Self {
        Self(ParMap::new(Batches { stream: Some(source), max_items }, workers, map))
    }

    /// Sets the maximum number of batches that are taken from the source and not consumed, including the batches in
    /// progress. It must be at least 1.
    pub fn window(self, batches: usize) -> Self {
        Self(self.0.window(batches))
    }
}

impl<S, F, Fut, O> ParMapBatched<S, F>
where
    S: Stream<Item: Send> + Send + 'static,
    F: Fn(Vec<S::Item>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<O>> + Send + 'static,
    O: Send + 'static,
{
    /// Starts the workers in the scope. The results have the order of the source.
    ///
    /// # Errors
    /// [`StreamSetupError`] with these settings, if the scope has ended, or the number of workers, `max_items` or the window
    /// is zero.
    #[track_caller]
    pub fn ordered(
        self,
        scope: &Scope,
        name: impl Into<Name>,
    ) -> Result<SpawnedBatches<O>, StreamSetupError<Self>> {
        self.start(Order::Source, scope, name.into(), Location::caller())
    }

    /// Starts the workers in the scope. The results have the order in which their batches complete.
    ///
    /// # Errors
    /// As with [`ordered`](Self::ordered).
    #[track_caller]
    pub fn unordered(
        self,
        scope: &Scope,
        name: impl Into<Name>,
    ) -> Result<SpawnedBatches<O>, StreamSetupError<Self>> {
        self.start(Order::Done, scope, name.into(), Location::caller())
    }

    fn start(
        self,
        order: Order,
        scope: &Scope,
        name: Name,
        site: &'static Location<'static>,
    ) -> Result<SpawnedBatches<O>, StreamSetupError<Self>> {
        if self.0.source().max_items == 0 {
            return Err(StreamSetupError { stream: self, problem: SetupProblem::Zero("max_items") });
        }
        let started = self.0.start(order, scope, name, site);
        started.map(SpawnedBatches::new).map_err(|error| error.map(Self))
    }
}

pin_project! {
    /// A stream of the items that another stream has ready.
    struct Batches<S> {
        #[pin]
        stream: Option<S>,
        max_items: usize,
    }
}

impl<S: Stream> Stream for Batches<S> {
    type Item = Vec<S::Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let mut batch = Vec::new();
        while let Some(stream) = this.stream.as_mut().as_pin_mut() {
            match stream.poll_next(cx) {
                Poll::Ready(Some(item)) => batch.push(item),
                Poll::Ready(None) => this.stream.set(None),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
            if batch.len() == *this.max_items {
                break;
            }
        }
        Poll::Ready((!batch.is_empty()).then_some(batch))
    }
}

/// The results of batches, one by one.
#[must_use = "the tasks wait until the stream is read"]
#[allow(unnameable_types, reason = "users read it as a stream")]
pub struct SpawnedBatches<T> {
    batches: Spawned<Vec<T>>,
    ready: vec::IntoIter<T>,
}

impl<T> SpawnedBatches<T> {
    fn new(batches: Spawned<Vec<T>>) -> Self {
        Self { batches, ready: Vec::new().into_iter() }
    }

    /// The reason if the stream ended before its source: see [`Spawned::cut_off`].
    #[must_use]
    pub fn cut_off(&self) -> Option<Reason> {
        self.batches.cut_off()
    }
}

impl<T> Stream for SpawnedBatches<T> {
    type Item = T;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            if let Some(item) = self.ready.next() {
                return Poll::Ready(Some(item));
            }
            match ready!(Pin::new(&mut self.batches).poll_next(cx)) {
                Some(batch) => self.ready = batch.into_iter(),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T> FusedStream for SpawnedBatches<T> {
    fn is_terminated(&self) -> bool {
        self.ready.len() == 0 && self.batches.is_terminated()
    }
}

// Items are never pinned.
impl<T> Unpin for SpawnedBatches<T> {}

impl<T> fmt::Debug for SpawnedBatches<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnedBatches")
            .field("batches", &self.batches)
            .field("ready", &self.ready.len())
            .finish()
    }
}

impl<S, F> fmt::Debug for ParMapBatched<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ParMapBatched").field(&self.0).finish()
    }
}
