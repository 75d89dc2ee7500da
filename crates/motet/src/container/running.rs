use std::any::TypeId;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::graph::Graph;
use super::health::{self, HealthReport};
use super::key::{Key, Value, id_named};
use super::owner::StoreOwner;
use super::provider::Lifetime;
use super::store::{ComponentSlot, Store, StoreLife};
use super::{GetError, Scoped, StartReport, StopReport};
use crate::sim;
use crate::task::{Name, Reason, Scope, ScopeClosedError};

/// A container whose components have started.
///
/// # Drop
/// The components stay in the scope, which stops them at its end. [`stop`](Self::stop) stops them earlier.
pub struct Running {
    owner: StoreOwner,
    graph: Arc<Graph>,
    /// The singletons that were started, by the numbers of their keys.
    values: Vec<Option<Value>>,
    report: StartReport,
}

impl Running {
    /// The singletons of a store, by the numbers of their keys.
    pub(crate) fn values(store: &Store) -> Vec<Option<Value>> {
        let mut values = vec![None; store.graph.keys.len()];
        {
            let state = store.state();
            for target in store.graph.keys.values() {
                let node = &store.graph.nodes[target.node];
                if node.lifetime == Lifetime::Singleton
                    && let Some(ComponentSlot::Ready(value)) =
                        node.slot.and_then(|slot| state.slots.get(slot))
                {
                    values[target.key] = Some(value.clone());
                }
            }
        }
        // Outside of the lock: a cast is code of the user.
        for target in store.graph.keys.values() {
            if let (Some(cast), Some(value)) = (&target.cast, &mut values[target.key]) {
                *value = cast(value);
            }
        }
        values
    }

    pub(crate) fn new(owner: StoreOwner, values: Vec<Option<Value>>) -> Self {
        let store = owner.store();
        let (report, graph) = (store.start_report(), Arc::clone(&store.graph));
        Self { owner, graph, values, report }
    }

    fn value(&self, id: TypeId) -> Option<&Value> {
        self.values[self.graph.keys.get(&id)?.key].as_ref()
    }

    /// Returns a singleton, for the cost of a look-up in a map and a reference count.
    ///
    /// # Errors
    /// [`GetError`]: the component is not provided, is not a singleton, or was not part of this start.
    pub fn get<T: ?Sized + Send + Sync + 'static>(&self) -> Result<Arc<T>, GetError> {
        self.get_ref().cloned()
    }

    /// Returns a reference to a singleton: no reference count is changed.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_ref<T: ?Sized + Send + Sync + 'static>(&self) -> Result<&Arc<T>, GetError> {
        match self.value(TypeId::of::<T>()).and_then(Value::get) {
            Some(value) => Ok(value),
            None => Err(self.unavailable(Key::of::<(), T>())),
        }
    }

    /// Returns a singleton that was provided with a tag.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_named<Tag: 'static, T: ?Sized + Send + Sync + 'static>(&self) -> Result<Arc<T>, GetError> {
        match self.value(id_named::<Tag, T>()).and_then(Value::get) {
            Some(value) => Ok(Arc::clone(value)),
            None => Err(self.unavailable(Key::of::<Tag, T>())),
        }
    }

    #[cold]
    fn unavailable(&self, key: Key) -> GetError {
        let graph = &self.graph;
        match graph.target(key).map(|target| graph.nodes[target.node].lifetime) {
            Err(unknown) => unknown,
            Ok(Lifetime::Singleton) => GetError::not_started(key),
            Ok(lifetime) => GetError::not_singleton(key, lifetime),
        }
    }

    /// Opens the container in another scope, for example that of a request or a job. Scoped components are built in
    /// that scope when they are first requested, and stopped at its end.
    ///
    /// # Errors
    /// [`ScopeClosedError`]: the scope has ended, or the container was stopped.
    ///
    /// # Examples
    /// ```
    /// use motet::container::Container;
    /// use motet::task::{Nursery, scope};
    /// use std::sync::Arc;
    ///
    /// #[derive(Debug)]
    /// struct Request(u32);
    /// struct Database;
    /// struct Transaction(Arc<Database>, Arc<Request>);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let mut c = Container::new();
    ///     c.input::<Request>();
    ///     c.value(Database);
    ///     c.provide_scoped(|db: Arc<Database>, request: Arc<Request>| async move { Transaction(db, request) })
    ///         .on_stop(|transaction| async move { println!("commit {}", transaction.1.0) });
    ///     let running = c.start(n).await.unwrap();
    ///
    ///     for request in 0..3 {
    ///         scope(async |n: &Nursery| {
    ///             let scoped = running.within(n).unwrap();
    ///             scoped.value(Request(request)).unwrap();
    ///             assert_eq!(scoped.get::<Transaction>().await.unwrap().1.0, request);
    ///             Ok(())
    ///         }).await.unwrap(); // the transaction is committed
    ///     }
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn within(&self, scope: &Scope) -> Result<Scoped, ScopeClosedError<()>> {
        let parent = self.owner.store();
        let store = Store::new(
            Arc::clone(&parent.graph),
            parent.starts,
            Arc::clone(&scope.0),
            Some(Arc::clone(parent)),
        );
        let name = Name::from("scoped components");
        let owner = StoreOwner::new(Arc::clone(&store), name, Location::caller())
            .ok_or_else(|| ScopeClosedError::new(&scope.0.name, ()))?;
        let mut state = parent.state();
        // The stop has already collected the open scopes. It would stop the components of this one too late: after the
        // singletons that they use.
        if state.phase != StoreLife::Open {
            drop(state);
            owner.stop_later(Reason::requested("the container is stopped"));
            return Err(ScopeClosedError::of_container(&parent.host.name, ()));
        }
        // Entries of closed scopes are removed when the list is full, so that it is at most twice as long as the number
        // of scopes that were open at a time.
        if state.scoped.len() == state.scoped.capacity() {
            state.scoped.retain(|scoped| scoped.strong_count() > 0);
        }
        state.scoped.push(Arc::downgrade(&store));
        drop(state);
        Ok(Scoped::new(owner))
    }

    /// Runs the health checks of all components concurrently. The health of a component is at most the health of its
    /// dependencies.
    ///
    /// A component is unhealthy if its check fails, panics or exceeds its time limit, or if a task in its scope has
    /// panicked. A container whose stop has begun is unhealthy as a whole: [`HealthReport::is_stopping`].
    ///
    /// # Cancel safety
    /// Safe: dropping the future drops the checks.
    #[track_caller]
    pub fn health(&self) -> impl Future<Output = HealthReport> {
        sim::around("container", "health", async move { health::check(self.owner.store()).await })
    }

    /// The durations of the start, and what determined them.
    #[must_use]
    pub fn start_report(&self) -> &StartReport {
        &self.report
    }

    /// Stops the components now: each once, after all components that depend on it, concurrently where the order allows
    /// it. Components of open scopes are stopped first.
    ///
    /// # Cancel safety
    /// Safe: if the future is dropped, the stop continues in the scope, which waits for it; the report is lost.
    #[track_caller]
    pub fn stop(self) -> impl Future<Output = StopReport> {
        sim::around("container", "stop", async move {
            let Self { owner, values, .. } = self;
            // Components without other owners are dropped when they are stopped.
            drop(values);
            owner.stop(Reason::requested("the container is stopped")).await
        })
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("name", &self.owner.store().graph.name)
            .field("components", &self.report.components.len())
            .finish_non_exhaustive()
    }
}
