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

/// Looks up values by key, in batches that contain each key once for all its callers.
///
/// It is a handle: clones look up in the same batches. A loader stores no values: a call after a batch has started
/// looks its key up again, so a value is never older than the call.
///
/// # Drop
/// When the last handle is dropped, no caller is waiting any more.
///
/// # Examples
/// ```
/// use motet::batch::Loader;
/// use motet::task::{Nursery, gather, scope};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// scope(async |n: &Nursery| {
///     let lengths = Loader::new(n, async |words: Vec<&'static str>| {
///         assert_eq!(words, ["one", "three"]);
///         words.into_iter().map(|word| Ok::<_, String>(word.len())).collect::<Vec<_>>()
///     });
///     let loaded = gather(["one", "three", "one"].map(|word| lengths.load(word))).await;
///     assert_eq!(loaded.into_iter().map(|length| *length.unwrap()).sum::<usize>(), 11);
///     Ok(())
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
pub struct Loader<K, V, E> {
    inner: Arc<Inner<K, V, E>>,
}

struct Inner<K, V, E> {
    handle: Handle<Asked<K>, Arc<V>, Arc<E>>,
    /// Random per loader: keys are batched in the order of the calls, not of their hashes.
    hasher: RandomState,
}

impl<K, V, E> Loader<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Creates a loader in a scope, with the defaults of [`LoaderBuilder`].
    #[track_caller]
    pub fn new<F, Fut>(scope: &Scope, handler: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = V, Error = E>> + Send + 'static,
    {
        LoaderBuilder::new(scope).open(handler)
    }

    /// Loads the value of a key.
    ///
    /// The handler gets a key once for all callers that load it while its batch is open; each of them gets the same
    /// value, or the same error. Each call costs one allocation.
    ///
    /// # Cancel safety
    /// See [`Load`]: other callers are not affected.
    ///
    /// # Errors
    /// [`LoadError`](super::LoadError).
    #[track_caller]
    pub fn load(&self, key: K) -> Load<'_, K, V, E> {
        let hash = self.inner.hasher.hash_one(&key);
        Load::new(&self.inner.handle.shared, key, hash)
    }

    /// Sends the open batch to the handler now, and waits until all keys that were added before have their values.
    ///
    /// A handler must not call this: it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: the batch runs; only the wait is dropped.
    #[track_caller]
    pub fn flush(&self) -> impl Future<Output = ()> {
        sim::at_named("loader", "flush", || Some(self.inner.handle.shared.name.to_string()), async move {
            self.inner.handle.flush().await;
        })
    }

    /// Closes the loader, sends the open batch to the handler now, and waits until all keys have their values.
    ///
    /// A handler must not call this: it would wait for itself.
    ///
    /// # Cancel safety
    /// Safe: the loader is closed at the first poll, and its keys are handled. A further call waits for them.
    #[track_caller]
    pub fn close(&self) -> impl Future<Output = ()> {
        sim::at_named("loader", "close", || Some(self.inner.handle.shared.name.to_string()), async move {
            self.inner.handle.close().await;
        })
    }

    /// The current numbers of the loader. An item is a key, whatever the number of its callers.
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

/// Sets the options of a [`Loader`].
///
/// # Defaults
/// Those of a [`Builder`](super::Builder): at most 64 different keys in a batch, 1 ms after its first key, 4 batches in
/// flight, 16 times the keys of a batch waiting, 10 000 callers that wait for capacity, not eager, no name.
#[derive(Debug)]
#[must_use = "the loader is created by `build`"]
pub struct LoaderBuilder {
    scope: Scope,
    settings: Settings,
}

impl LoaderBuilder {
    /// Creates a builder for a loader in a scope. Its batches run as tasks of that scope.
    #[track_caller]
    pub fn new(scope: &Scope) -> Self {
        Self { scope: scope.clone(), settings: Settings::new() }
    }

    /// Sets the name, and shows the loader in the snapshots of its scope.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Sets how many different keys a batch holds; 64 by default.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.settings.max_items = keys;
        self
    }

    /// Sets the delay after the first key of a batch at which the batch runs, full or not; 1 ms by default. With `None`
    /// or [`Duration::MAX`] a batch runs when it is full, flushed or closed. With zero it runs without delay.
    pub fn max_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.settings.max_delay = delay.into();
        self
    }

    /// Sets how many batches may be in flight; 4 by default.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// Sets how many keys may wait for their batch; further callers wait for capacity. 16 times the keys of a batch by
    /// default.
    pub fn max_waiting(mut self, keys: usize) -> Self {
        self.settings.max_waiting = Some(keys);
        self
    }

    /// Sets how many callers may wait for capacity; further callers fail at once with `Full`. 10 000 by default; with
    /// zero no caller waits.
    pub fn max_in_line(mut self, callers: usize) -> Self {
        self.settings.max_in_line = callers;
        self
    }

    /// Runs a batch at once when none is in flight: keys are batched only while the handler is busy.
    pub fn eager(mut self) -> Self {
        self.settings.eager = true;
        self
    }

    /// Creates the loader.
    ///
    /// `handler` gets the keys of a batch, each once, and returns a value or an error for each, in their order, or one
    /// error for all: see [`BatchOutcome`].
    ///
    /// # Errors
    /// [`BuildError`]: a limit is out of its range.
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

    /// Creates the loader from valid settings.
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
                    // The last reference, if no caller waits for the value any more: its drop may panic.
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
