use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::error::BuildError;
use super::handle::Handle;
use super::load::{Asked, Load};
use super::outcome::BatchOutcome;
use super::run::starter;
use super::settings::Settings;
use super::shared::Shared;
use super::state::{Seating, State};
use super::stats::BatchStats;
use super::watch;
use crate::task::caught::quietly_drop;
use crate::task::{Name, Scope};
use crate::{mutant, sim};

/// Looks values up by key, in batches in which each key is there once, whoever asks for it.
///
/// A handle: clones ask in the same batches. It keeps no values: who asks after a batch was taken is asked for anew,
/// so a value is never older than the question.
///
/// # Drop
/// With the last handle nobody waits any more.
///
/// # Examples
/// ```
/// use motet::batch::Loader;
/// use motet::task::{Nursery, gather, scope};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// scope(async |n: &Nursery| {
///     let lengths = Loader::new(n, async |words: Vec<&'static str>| {
///         assert_eq!(words, ["one", "three"]);
///         words.into_iter().map(|word| Ok::<_, String>(word.len())).collect::<Vec<_>>()
///     });
///     let loaded = gather(["one", "three", "one"].map(|word| lengths.load(word))).await;
///     assert_eq!(loaded.into_iter().map(|length| *length.unwrap()).sum::<usize>(), 11);
///     Ok(())
/// }).await.unwrap();
/// # });
/// ```
pub struct Loader<K, V, E> {
    inner: Arc<Inner<K, V, E>>,
}

struct Inner<K, V, E> {
    handle: Handle<Asked<K>, Arc<V>, Arc<E>>,
    /// No order depends on it: keys are batched as they come.
    hasher: RandomState,
}

impl<K, V, E> Loader<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Opens a loader in a scope, with the defaults of [`LoaderBuilder`].
    #[track_caller]
    pub fn new<F, Fut>(scope: &Scope, handler: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = V, Error = E>> + Send + 'static,
    {
        LoaderBuilder::new(scope).open(handler)
    }

    /// Asks for the value of a key.
    ///
    /// The handler sees a key once for all that ask while its batch is open; each is given the same value, or the
    /// same error. An allocation for each question.
    ///
    /// # Cancel safety
    /// See [`Load`]: nobody else is disturbed.
    ///
    /// # Errors
    /// [`LoadError`](super::LoadError).
    #[track_caller]
    pub fn load(&self, key: K) -> Load<'_, K, V, E> {
        let hash = self.inner.hasher.hash_one(&key);
        Load::new(&self.inner.handle.shared, key, hash)
    }

    /// Has the open batch go now, and waits until all keys that had come in before have their values.
    ///
    /// In a handler it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: the batch goes; only the wait is dropped.
    #[track_caller]
    pub fn flush(&self) -> impl Future<Output = ()> {
        sim::at_named("loader", "flush", || Some(self.inner.handle.shared.name.to_string()), async move {
            self.inner.handle.flush().await;
        })
    }

    /// Takes no more keys, has the open batch go now, and waits until all keys have their values.
    ///
    /// In a handler it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: it is closed all the same, and drains; call it again to wait.
    #[track_caller]
    pub fn close(&self) -> impl Future<Output = ()> {
        sim::at_named("loader", "close", || Some(self.inner.handle.shared.name.to_string()), async move {
            self.inner.handle.close().await;
        })
    }

    /// Tells what it does now, and what it has done. An item is a key, however many ask for it.
    #[must_use]
    pub fn stats(&self) -> BatchStats {
        BatchStats::of(&self.inner.handle.shared)
    }
}

impl<K, V, E> Clone for Loader<K, V, E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V, E> fmt::Debug for Loader<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.inner.handle.shared;
        f.debug_struct("Loader")
            .field("name", &shared.name)
            .field("stats", &BatchStats::of(shared))
            .finish_non_exhaustive()
    }
}

/// Sets up a [`Loader`].
///
/// # Defaults
/// Those of a [`Builder`](super::Builder): at most 64 different keys in a batch, 1 ms after its first key, 4 batches in
/// flight, 16 times the keys of a batch waiting, 10 000 callers that wait for a place, not eager, no name.
#[derive(Debug)]
#[must_use = "it is no loader until it is built"]
pub struct LoaderBuilder {
    scope: Scope,
    settings: Settings,
}

impl LoaderBuilder {
    /// Sets up a loader of a scope: its batches run as tasks of that.
    #[track_caller]
    pub fn new(scope: &Scope) -> Self {
        Self { scope: scope.clone(), settings: Settings::new() }
    }

    /// Shows the loader under this name in the snapshots of its scope.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Puts no more than this many different keys in a batch; 64 unless set.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.settings.max_items = keys;
        self
    }

    /// Has a batch go this long after its first key, full or not; 1 ms unless set. With `None` it goes when it is
    /// full, flushed or closed, and so it does with [`Duration::MAX`]. With zero it waits for nothing.
    pub fn max_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.settings.max_delay = delay.into();
        self
    }

    /// Lets no more than this many batches run at the same time; 4 unless set.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// Lets no more than this many keys wait to be taken: who asks for more waits for a place. 16 times the keys of a
    /// batch unless set.
    pub fn max_waiting(mut self, keys: usize) -> Self {
        self.settings.max_waiting = Some(keys);
        self
    }

    /// Lets no more than this many callers wait for a place: who would be one more is refused at once, with `Full`.
    /// 10 000 unless set; with zero nobody waits.
    pub fn max_in_line(mut self, callers: usize) -> Self {
        self.settings.max_in_line = callers;
        self
    }

    /// Has a batch go at once when none is in flight: keys are batched only while the handler is busy.
    pub fn eager(mut self) -> Self {
        self.settings.eager = true;
        self
    }

    /// Makes the loader.
    ///
    /// `handler` is given the keys of a batch, each once, and gives a value or an error for each, in their order, or
    /// one error for all: [`BatchOutcome`].
    ///
    /// # Errors
    /// [`BuildError`]: a limit makes no sense.
    pub fn build<K, V, E, F, Fut>(self, handler: F) -> Result<Loader<K, V, E>, BuildError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = V, Error = E>> + Send + 'static,
    {
        self.settings.check(u64::MAX)?;
        Ok(self.open(handler))
    }

    /// With settings that are known to make sense.
    fn open<K, V, E, F, Fut>(self, handler: F) -> Loader<K, V, E>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = V, Error = E>> + Send + 'static,
    {
        let Self { scope, settings } = self;
        let is_named = settings.name.is_some();
        let handler = Arc::new(handler);
        let by_key = move |keys: Vec<Asked<K>>| {
            let handler = Arc::clone(&handler);
            async move {
                let own = |Asked { key, own }: Asked<K>| {
                    let own = own.unwrap_or_else(|| K::clone(&key));
                    if mutant!("batch.clone_in_batch") {
                        drop(K::clone(&key));
                    }
                    // The last one, if no caller waits for the value any more: its drop may panic.
                    quietly_drop(key);
                    own
                };
                let keys: Vec<K> = keys.into_iter().map(own).collect();
                let count = keys.len();
                let share = |result: Result<V, E>| result.map(Arc::new).map_err(Arc::new);
                match handler(keys).await.into_answers() {
                    Ok(answers) => answers.into_iter().map(share).collect::<Vec<_>>(),
                    Err(error) => vec![Err(Arc::new(error)); count],
                }
            }
        };
        let handle = Handle::new(Arc::new(Shared {
            state: State::new(settings.limits(u64::MAX)).into(),
            ended: Default::default(),
            watch: Default::default(),
            name: settings.name.unwrap_or_else(|| Name::from("load")),
            site: settings.site,
            max_delay: settings.max_delay,
            weigh: None,
            start_watch: watch::start,
            start: starter(scope.clone(), by_key),
            spread: Seating::by_seat,
            scope: scope.clone(),
        }));
        let handle = if is_named { handle.shown("loader", &scope) } else { handle };
        Loader { inner: Arc::new(Inner { handle, hasher: RandomState::new() }) }
    }
}
