use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use super::builder::{BatcherBuilder, Keys};
use super::error::{BatcherConfigError, LoadError};
use super::handle::BatchHandle;
use super::load::{Asked, Load};
use super::run::{BatchOutcome, starter};
use super::state::SlotMap;
use super::stats::BatchStats;
use crate::sync::quietly_drop;
use crate::task::Scope;
use crate::{mutant, sim};

/// Looks up values by key, in batches that contain each key once for all its callers.
///
/// It is a handle: clones look up in the same batches. A loader stores no values: a call after a batch has started
/// looks its key up again, so a value is never older than the call.
///
/// # Drop
/// The drop of the last handle closes the loader. No caller waits for a value then, since a call borrows its handle.
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
    inner: Arc<LoaderInner<K, V, E>>,
}

struct LoaderInner<K, V, E> {
    handle: BatchHandle<Asked<K>, Arc<V>, Arc<E>>,
    /// Random per loader: keys are batched in the order of the calls, not of their hashes.
    hasher: RandomState,
}

impl<K, V, E> Loader<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Creates a loader in a scope, with the defaults of [`BatcherBuilder`].
    #[track_caller]
    pub fn new<F, Fut>(scope: &Scope, handler: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = V, Error = E>> + Send + 'static,
    {
        Loader::builder(scope).open(handler)
    }

    /// Loads the value of a key.
    ///
    /// The handler gets a key once for all callers that load it while its batch is open; each of them gets the same
    /// value, or the same error. Each call costs one allocation.
    ///
    /// # Cancel safety
    /// Safe: other callers are not affected.
    ///
    /// # Errors
    /// [`LoadError`]. The key is handed back if it was not looked up.
    ///
    /// # Drop
    /// If no other caller waits for the key and its batch does not run yet, the key is removed; the other keys stay.
    #[track_caller]
    pub fn load(&self, key: K) -> impl Future<Output = Result<Arc<V>, LoadError<K, E>>> {
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

    /// Returns `true` if the loader is closed, or its scope is cancelled or has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.handle.shared.is_over() || self.stats().is_closed
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

impl Loader<(), (), ()> {
    /// Creates a builder for a loader in a scope. Its batches run as tasks of that scope.
    #[track_caller]
    pub fn builder<K>(scope: &Scope) -> BatcherBuilder<K, Keys> {
        BatcherBuilder::new(scope)
    }
}

impl<K> BatcherBuilder<K, Keys>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Creates the loader.
    ///
    /// `handler` gets the keys of a batch, each once, and returns a `Vec<Result<V, E>>` with a value or an error for each
    /// key, in their order; or a `Result<Vec<Result<V, E>>, E>`, whose error is the answer to all of them. It is called in
    /// a task of its own for each batch.
    ///
    /// # Errors
    /// [`BatcherConfigError`]: a setting is out of its range.
    pub fn build<V, E, F, Fut>(self, handler: F) -> Result<Loader<K, V, E>, BatcherConfigError>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = V, Error = E>> + Send + 'static,
    {
        self.settings.check(u64::MAX)?;
        Ok(self.open(handler))
    }

    /// Creates the loader from valid settings.
    fn open<V, E, F, Fut>(self, handler: F) -> Loader<K, V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: BatchOutcome<Value = V, Error = E>> + Send + 'static,
    {
        let Self { scope, settings, .. } = self;
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
        let start = starter(scope.clone(), by_key);
        let handle = settings.open(&scope, ("loader", "load"), None, start, SlotMap::by_slot);
        Loader { inner: Arc::new(LoaderInner { handle, hasher: RandomState::new() }) }
    }
}
