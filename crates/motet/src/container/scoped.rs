use std::fmt;
use std::sync::Arc;

use super::build::BuildClock;
use super::factory::Maker;
use super::key::{Key, Value};
use super::owner::StoreOwner;
use super::store::Asked;
use super::{GetError, StopReport};
use crate::sim;
use crate::task::Reason;

/// A container in a scope of its own, which builds scoped components when they are first requested.
///
/// Returned by [`Running::within`](super::Running::within).
///
/// # Drop
/// The components stay in the scope, which stops them at its end. Open a scope per request, not one for all: the
/// components of a request are held until its scope ends.
pub struct Scoped {
    owner: StoreOwner,
}

impl Scoped {
    pub(crate) fn new(owner: StoreOwner) -> Self {
        Self { owner }
    }

    /// Sets an input of the scope; see [`Container::input`](super::Container::input).
    ///
    /// # Errors
    /// The value, if its type is not an input, if the input was set before, or if the components are being stopped.
    pub fn value<T: Send + Sync + 'static>(&self, value: T) -> Result<(), T> {
        self.fill(Key::of::<(), T>(), value)
    }

    /// Sets an input that was declared with a tag, like [`value`](Self::value).
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn value_named<Tag: 'static, T: Send + Sync + 'static>(&self, value: T) -> Result<(), T> {
        self.fill(Key::of::<Tag, T>(), value)
    }

    fn fill<T: Send + Sync + 'static>(&self, input: Key, value: T) -> Result<(), T> {
        let store = self.owner.store();
        let Some(target) = store.graph.keys.get(&input.id()) else { return Err(value) };
        let node = &store.graph.nodes[target.node];
        match (&node.maker, &target.cast, node.slot) {
            (Maker::Input, None, Some(slot)) => store.fill(slot, value),
            _ => Err(value),
        }
    }

    /// Returns a component: a singleton, a scoped component, which is built if the scope has none yet, or a new
    /// transient, which belongs to this scope.
    ///
    /// A scoped component is built once for all concurrent callers. If the build fails, all waiting callers receive the
    /// error, and the next call tries again.
    ///
    /// # Cancel safety
    /// Safe: a build in progress continues, for the next caller, and is stopped with the scope.
    ///
    /// # Errors
    /// [`GetError`]: the component is not available, or could not be built.
    #[track_caller]
    pub fn get<T: ?Sized + Send + Sync + 'static>(&self) -> impl Future<Output = Result<Arc<T>, GetError>> {
        sim::around("container", "get", async move {
            self.find(Key::of::<(), T>()).await.map(|value| value.arc())
        })
    }

    /// Returns a component that was provided with a tag, like [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Safe: as [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_named<Tag: 'static, T: ?Sized + Send + Sync + 'static>(
        &self,
    ) -> impl Future<Output = Result<Arc<T>, GetError>> {
        sim::around("container", "get", async move {
            self.find(Key::of::<Tag, T>()).await.map(|value| value.arc())
        })
    }

    async fn find(&self, key: Key) -> Result<Value, GetError> {
        tokio::task::coop::consume_budget().await;
        let store = self.owner.store();
        let target = store.graph.target(key)?.clone();
        let built = match store.ask(target.node, 0, &BuildClock::default()) {
            Ok(Asked::Ready(value)) => Ok(value),
            Ok(Asked::Wait(built)) => built.wait().await,
            Err(closed) => Err(closed),
        };
        let value = built.map_err(GetError::Build)?;
        Ok(match target.cast {
            Some(cast) => cast(&value),
            None => value,
        })
    }

    /// Stops the components of this scope now, before the scope ends: each once, after all components that depend on it.
    ///
    /// # Cancel safety
    /// Safe: if the future is dropped, the stop continues in the scope, which waits for it; the report is lost.
    #[track_caller]
    pub fn close(self) -> impl Future<Output = StopReport> {
        sim::around("container", "stop of a scope", async move {
            self.owner.stop(Reason::requested("the scoped components are stopped")).await
        })
    }
}

impl fmt::Debug for Scoped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = self.owner.store().state().built.len();
        f.debug_struct("Scoped").field("ready", &ready).finish_non_exhaustive()
    }
}
