use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::batcher::Batcher;
use super::error::BuildError;
use super::handle::Handle;
use super::outcome::BatchOutcome;
use super::run::starter;
use super::settings::Settings;
use super::shared::{Shared, Weigh};
use super::state::{Seating, State};
use super::watch;
use crate::task::{Name, Scope};

/// Sets the options of a [`Batcher`].
///
/// # Defaults
/// At most 64 items of any weight in a batch, 1 ms after its first item, 4 batches in flight, 16 times the items of a
/// batch waiting, 10 000 callers that wait for capacity, not eager, no name.
///
/// # Examples
/// ```
/// use motet::batch::Builder;
/// use motet::task::{Nursery, scope};
/// use std::{io, time::Duration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// scope(async |n: &Nursery<io::Error>| {
///     let lines = Builder::new(n)
///         .named("lines")
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
#[must_use = "the batcher is created by `build`"]
pub struct Builder<T> {
    scope: Scope,
    settings: Settings,
    weigh: Option<Weigh<T>>,
}

impl<T: Send + 'static> Builder<T> {
    /// Creates a builder for a batcher in a scope. Its batches run as tasks of that scope.
    #[track_caller]
    pub fn new(scope: &Scope) -> Self {
        Self { scope: scope.clone(), settings: Settings::new(), weigh: None }
    }

    /// Sets the name, and shows the batcher in the snapshots of its scope.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Sets how many items a batch holds; 64 by default.
    pub fn max_items(mut self, items: usize) -> Self {
        self.settings.max_items = items;
        self
    }

    /// Sets the weight that a batch holds. `weigh` returns the weight of an item; the caller that adds the item calls
    /// it once.
    pub fn max_weight(mut self, weight: u64, weigh: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.weigh = Some((weight, Box::new(weigh)));
        self
    }

    /// Sets the delay after the first item of a batch at which the batch runs, full or not; 1 ms by default. With
    /// `None` or [`Duration::MAX`] a batch runs when it is full, flushed or closed. With zero it runs without delay.
    pub fn max_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.settings.max_delay = delay.into();
        self
    }

    /// Sets how many batches may be in flight; 4 by default. With 1 they run in order.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// Sets how many items may wait for their batch; further callers wait for capacity. 16 times the items of a batch
    /// by default.
    pub fn max_waiting(mut self, items: usize) -> Self {
        self.settings.max_waiting = Some(items);
        self
    }

    /// Sets how many callers may wait for capacity; further callers fail at once with `Full`. 10 000 by default; with
    /// zero no caller waits.
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

    /// Creates the batcher.
    ///
    /// `handler` gets the items of a batch, and returns an answer for each, in their order, or one error for all: see
    /// [`BatchOutcome`]. It is called in a task of its own for each batch.
    ///
    /// # Errors
    /// [`BuildError`]: a limit is out of its range.
    pub fn build<R, E, F, Fut>(self, handler: F) -> Result<Batcher<T, R, E>, BuildError>
    where
        R: Send + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = R, Error = E>> + Send + 'static,
    {
        self.settings.check(self.most())?;
        Ok(self.open(handler))
    }

    fn most(&self) -> u64 {
        self.weigh.as_ref().map_or(u64::MAX, |(most, _)| *most)
    }

    /// Creates the batcher from valid settings.
    pub(super) fn open<R, E, F, Fut>(self, handler: F) -> Batcher<T, R, E>
    where
        R: Send + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = R, Error = E>> + Send + 'static,
    {
        let state = State::new(self.settings.limits(self.most()));
        let Self { scope, settings, weigh } = self;
        let is_named = settings.name.is_some();
        let handle = Handle::new(Arc::new(Shared {
            state: state.into(),
            ended: Default::default(),
            watch: Default::default(),
            name: settings.name.unwrap_or_else(|| Name::from("batch")),
            site: settings.site,
            max_delay: settings.max_delay,
            weigh,
            start_watch: watch::start,
            start: starter(scope.clone(), handler),
            spread: Seating::by_number,
            scope: scope.clone(),
        }));
        Batcher::of(if is_named { handle.shown("batcher", &scope) } else { handle })
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
