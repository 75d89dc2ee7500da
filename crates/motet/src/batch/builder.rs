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

/// Sets up a [`Batcher`].
///
/// # Defaults
/// At most 64 items and any weight in a batch, 1 ms after its first item, 4 batches in flight, 16 times the items of
/// a batch waiting, 10 000 callers that wait for a place, not eager, no name.
///
/// # Examples
/// ```
/// use motet::batch::Builder;
/// use motet::task::{Nursery, scope};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// scope(async |n: &Nursery| {
///     let lines = Builder::new(n)
///         .named("lines")
///         .max_items(500)
///         .max_weight(64 << 10, |line: &String| line.len() as u64)
///         .max_delay(Duration::from_millis(20))
///         .max_in_flight(1)
///         .build(async |lines: Vec<String>| {
///             let written = lines.iter().map(|line| Ok::<_, std::io::Error>(line.len()));
///             written.collect::<Vec<_>>()
///         })
///         .expect("these limits make sense");
///     lines.post("hello".to_owned()).await.unwrap();
///     lines.close().await;
///     assert!(n.snapshot().to_string().contains("batcher `lines`"));
///     Ok(())
/// }).await.unwrap();
/// # });
/// ```
#[must_use = "it is no batcher until it is built"]
pub struct Builder<T> {
    scope: Scope,
    settings: Settings,
    weigh: Option<Weigh<T>>,
}

impl<T: Send + 'static> Builder<T> {
    /// Sets up a batcher of a scope: its batches run as tasks of that.
    #[track_caller]
    pub fn new(scope: &Scope) -> Self {
        Self { scope: scope.clone(), settings: Settings::new(), weigh: None }
    }

    /// Shows the batcher under this name in the snapshots of its scope.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Puts no more than this many items in a batch; 64 unless set.
    pub fn max_items(mut self, items: usize) -> Self {
        self.settings.max_items = items;
        self
    }

    /// Puts no more than this weight in a batch; `weigh` says what an item weighs, and is called once for each, by
    /// whoever brings it.
    pub fn max_weight(mut self, weight: u64, weigh: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.weigh = Some((weight, Box::new(weigh)));
        self
    }

    /// Has a batch go this long after its first item, full or not; 1 ms unless set. With `None` it goes when it is
    /// full, flushed or closed, and so it does with [`Duration::MAX`]. With zero it waits for nothing.
    pub fn max_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.settings.max_delay = delay.into();
        self
    }

    /// Lets no more than this many batches run at the same time; 4 unless set. With 1 they run in order.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// Lets no more than this many items wait to be taken: who brings more waits for a place. 16 times the items of
    /// a batch unless set.
    pub fn max_waiting(mut self, items: usize) -> Self {
        self.settings.max_waiting = Some(items);
        self
    }

    /// Lets no more than this many callers wait for a place: who would be one more is refused at once, with `Full`.
    /// 10 000 unless set; with zero nobody waits.
    pub fn max_in_line(mut self, callers: usize) -> Self {
        self.settings.max_in_line = callers;
        self
    }

    /// Has a batch go at once when none is in flight: items are batched only while the handler is busy.
    ///
    /// Takes away the delay where there is little to do, at the price of a first batch of one item.
    pub fn eager(mut self) -> Self {
        self.settings.eager = true;
        self
    }

    /// Makes the batcher.
    ///
    /// `handler` is given the items of a batch, and gives an answer for each, in their order, or one error for all:
    /// [`BatchOutcome`]. It is called in a task of its own for each batch.
    ///
    /// # Errors
    /// [`BuildError`]: a limit makes no sense.
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

    /// With settings that are known to make sense.
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
