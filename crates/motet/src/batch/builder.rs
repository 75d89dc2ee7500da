use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::batcher::Batcher;
use super::error::BatcherConfigError;
use super::handle::BatchHandle;
use super::run::{BatchOutcome, starter};
use super::shared::{BatchShared, Spread, Start, Weigh};
use super::state::{BatchLimits, BatchState, SlotMap};
use super::watch;
use crate::task::{Name, Scope};

/// Sets the options of a [`Batcher`] or a [`Loader`](super::Loader); created by [`Batcher::builder`] and
/// [`Loader::builder`](super::Loader::builder). An item of a loader is a key.
///
/// # Defaults
/// At most 64 items of any weight in a batch, 1 ms after its first item, 4 batches in flight, 16 times the items of a
/// batch waiting, 10 000 callers that wait for capacity, not eager, no name.
///
/// # Examples
/// ```
/// use motet::batch::Batcher;
/// use motet::task::{Nursery, scope};
/// use std::{io, time::Duration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// scope(async |n: &Nursery<io::Error>| {
///     let lines = Batcher::builder(n)
///         .name("lines")
///         .max_items(500)
///         .max_weight(64 << 10, |line: &String| line.len() as u64)
///         .max_delay(Duration::from_millis(20))
///         .max_in_flight(1)
///         .build(async |lines: Vec<String>| {
///             let written = lines.iter().map(|line| Ok::<_, io::Error>(line.len()));
///             written.collect::<Vec<_>>()
///         })
///         .map_err(io::Error::other)?;
///     lines.post("hello".to_owned()).await.map_err(io::Error::other)?;
///     lines.close().await;
///     assert!(n.snapshot().to_string().contains("batcher `lines`"));
///     Ok(())
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the batcher or loader is created by `build`"]
pub struct BatcherBuilder<T, Kind = Items> {
    pub(super) scope: Scope,
    pub(super) settings: BatchSettings,
    weigh: Option<Weigh<T>>,
    kind: PhantomData<Kind>,
}

/// The kind of a builder for a [`Batcher`].
#[allow(unnameable_types, reason = "it is the default kind of a builder")]
#[derive(Debug)]
pub struct Items;

/// The kind of a builder for a [`Loader`](super::Loader).
#[allow(unnameable_types, reason = "users pass on the builder of a loader without its type")]
#[derive(Debug)]
pub struct Keys;

/// The settings of a batcher and of a loader.
#[derive(Debug, Clone)]
pub(super) struct BatchSettings {
    name: Option<Name>,
    site: &'static Location<'static>,
    max_items: usize,
    max_delay: Option<Duration>,
    max_in_flight: usize,
    max_waiting: Option<usize>,
    max_in_line: usize,
    eager: bool,
}

impl Batcher<(), (), ()> {
    /// Creates a builder for a batcher in a scope. Its batches run as tasks of that scope.
    #[track_caller]
    pub fn builder<T: Send + 'static>(scope: &Scope) -> BatcherBuilder<T> {
        BatcherBuilder::new(scope)
    }
}

impl<T, Kind> BatcherBuilder<T, Kind> {
    #[track_caller]
    pub(super) fn new(scope: &Scope) -> Self {
        Self { scope: scope.clone(), settings: BatchSettings::new(), weigh: None, kind: PhantomData }
    }

    /// Sets the name, and shows the batcher or loader in the snapshots of its scope.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Sets how many items a batch holds; 64 by default.
    pub fn max_items(mut self, items: usize) -> Self {
        self.settings.max_items = items;
        self
    }

    /// Sets the delay after the first item of a batch at which the batch runs, full or not; 1 ms by default. With `None`
    /// or [`Duration::MAX`] a batch runs when it is full, flushed or closed. With zero it runs without delay.
    pub fn max_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.settings.max_delay = delay.into();
        self
    }

    /// Sets how many batches may be in flight; 4 by default. With 1 they run in order.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// Sets how many items may wait for their batch; further callers wait for capacity. 16 times the items of a batch by
    /// default.
    pub fn max_waiting(mut self, items: usize) -> Self {
        self.settings.max_waiting = Some(items);
        self
    }

    /// Sets how many callers may wait for capacity; further callers fail at once with `Full`. 10 000 by default; with zero
    /// no caller waits.
    pub fn max_in_line(mut self, callers: usize) -> Self {
        self.settings.max_in_line = callers;
        self
    }

    /// Runs a batch at once when none is in flight: items are batched only while the handler is busy.
    ///
    /// This removes the delay under light load, at the price of a first batch of one item.
    pub fn eager(mut self) -> Self {
        self.settings.eager = true;
        self
    }
}

impl<T: Send + 'static> BatcherBuilder<T> {
    /// Sets the weight that a batch holds. `weigh` returns the weight of an item; the caller that adds the item calls it
    /// once.
    pub fn max_weight(mut self, weight: u64, weigh: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.weigh = Some((weight, Box::new(weigh)));
        self
    }

    /// Creates the batcher.
    ///
    /// `handler` gets the items of a batch, and returns a `Vec<Result<R, E>>` with an answer for each item, in their
    /// order; or a `Result<Vec<Result<R, E>>, E>`, whose error is the answer to all of them. It is called in a task of
    /// its own for each batch.
    ///
    /// # Errors
    /// [`BatcherConfigError`]: a setting is out of its range.
    pub fn build<R, E, F, Fut>(self, handler: F) -> Result<Batcher<T, R, E>, BatcherConfigError>
    where
        R: Send + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = R, Error = E>> + Send + 'static,
    {
        self.settings.check(max_weight(self.weigh.as_ref()))?;
        Ok(self.open(handler))
    }

    /// Creates the batcher from valid settings.
    pub(super) fn open<R, E, F, Fut>(self, handler: F) -> Batcher<T, R, E>
    where
        R: Send + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = R, Error = E>> + Send + 'static,
    {
        let Self { scope, settings, weigh, .. } = self;
        let start = starter(scope.clone(), handler);
        Batcher::of(settings.open(&scope, ("batcher", "batch"), weigh, start, SlotMap::by_number))
    }
}

/// The maximum weight of a batch.
fn max_weight<T>(weigh: Option<&Weigh<T>>) -> u64 {
    weigh.map_or(u64::MAX, |(most, _)| *most)
}

impl BatchSettings {
    #[track_caller]
    fn new() -> Self {
        Self {
            name: None,
            site: Location::caller(),
            max_items: 64,
            max_delay: Some(Duration::from_millis(1)),
            max_in_flight: 4,
            max_waiting: None,
            max_in_line: 10_000,
            eager: false,
        }
    }

    /// The default is large enough that callers seldom wait while all batches are in flight.
    fn max_waiting(&self) -> usize {
        self.max_waiting.unwrap_or_else(|| self.max_items.saturating_mul(16))
    }

    pub(super) fn check(&self, max_weight: u64) -> Result<(), BatcherConfigError> {
        match self {
            Self { max_items: 0, .. } => Err(BatcherConfigError::NoItems),
            Self { max_in_flight: 0, .. } => Err(BatcherConfigError::NoneInFlight),
            _ if max_weight == 0 => Err(BatcherConfigError::NoWeight),
            _ if self.max_waiting() < self.max_items => Err(BatcherConfigError::WaitingBelowBatch {
                max_waiting: self.max_waiting(),
                max_items: self.max_items,
            }),
            _ => Ok(()),
        }
    }

    /// Creates the handle of a batcher or a loader from valid settings. `kind` is its kind in snapshots, and the name of
    /// its tasks if it has no name.
    pub(super) fn open<T, R, E>(
        self,
        scope: &Scope,
        kind: (&'static str, &'static str),
        weigh: Option<Weigh<T>>,
        start: Start<T, R, E>,
        spread: Spread<R, E>,
    ) -> BatchHandle<T, R, E>
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Send + Sync + 'static,
    {
        let limits = BatchLimits {
            max_items: self.max_items,
            max_weight: max_weight(weigh.as_ref()),
            max_in_flight: self.max_in_flight,
            max_waiting: self.max_waiting(),
            max_in_line: self.max_in_line,
            eager: self.eager,
        };
        let is_named = self.name.is_some();
        let handle = BatchHandle::new(Arc::new(BatchShared {
            state: BatchState::new(limits).into(),
            ended: Default::default(),
            watch: Default::default(),
            name: self.name.unwrap_or_else(|| Name::from(kind.1)),
            site: self.site,
            max_delay: self.max_delay,
            weigh,
            start_watch: watch::start,
            start,
            spread,
            scope: scope.clone(),
        }));
        if is_named { handle.shown(kind.0, scope) } else { handle }
    }
}

impl<T, Kind> fmt::Debug for BatcherBuilder<T, Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatcherBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
