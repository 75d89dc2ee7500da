use std::fmt;
use std::sync::Arc;

use super::factory::Maker;
use super::owner::Owner;
use super::store::Asked;
use super::{GetFailed, Key, StopReport, Value};
use crate::sim;
use crate::task::Reason;

/// A container within a scope: what is scoped is built here, when it is first asked for.
///
/// Opened with [`Running::within`](super::Running::within).
///
/// # Drop
/// The components stay with the scope, which stops them at its end. Open a scope for each request, not one for all:
/// what was built for one is held until its scope ends.
pub struct Scoped {
    owner: Owner,
}

impl Scoped {
    pub(crate) fn new(owner: Owner) -> Self {
        Self { owner }
    }

    /// Gives the scope one of its inputs; see [`Container::input`](super::Container::input).
    ///
    /// # Errors
    /// The value, if it is no input, or was given before.
    pub fn value<T: Send + Sync + 'static>(&self, value: T) -> Result<(), T> {
        self.fill(Key::of::<(), T>(), value)
    }

    /// Gives the scope an input that was declared under a tag, as [`value`](Self::value) does.
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

    /// Gives a component: a singleton; a scoped one, which is built if it is not there; a transient, a new one each time,
    /// which is this scope's.
    ///
    /// However many ask at once, it is built once. If that fails, all who wait get the error, and whoever asks after that
    /// has it tried again.
    ///
    /// # Cancel safety
    /// Safe: what is being built goes on, for who asks next, and is stopped with the scope.
    ///
    /// # Errors
    /// [`GetFailed`]: there is none, or it could not be built.
    #[track_caller]
    pub fn get<T: ?Sized + Send + Sync + 'static>(&self) -> impl Future<Output = Result<Arc<T>, GetFailed>> {
        sim::around("container", "get", async move {
            self.find(Key::of::<(), T>()).await.map(|value| value.arc())
        })
    }

    /// Gives a component that was provided under a tag, as [`get`](Self::get) does.
    ///
    /// # Cancel safety
    /// Safe: as [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_named<Tag: 'static, T: ?Sized + Send + Sync + 'static>(
        &self,
    ) -> impl Future<Output = Result<Arc<T>, GetFailed>> {
        sim::around("container", "get", async move {
            self.find(Key::of::<Tag, T>()).await.map(|value| value.arc())
        })
    }

    async fn find(&self, key: Key) -> Result<Value, GetFailed> {
        tokio::task::coop::consume_budget().await;
        let store = self.owner.store();
        let target = store.graph.target(key).map_err(GetFailed::Unavailable)?.clone();
        let built = match store.ask(target.node, 0) {
            Ok(Asked::Ready(value)) => Ok(value),
            Ok(Asked::Wait(built)) => built.wait().await,
            Err(closed) => Err(closed),
        };
        let value = built.map_err(GetFailed::Build)?;
        Ok(match target.cast {
            Some(cast) => cast(&value),
            None => value,
        })
    }

    /// Stops what was built in the scope now: each once, after all that need it.
    ///
    /// # Cancel safety
    /// The stop goes on in the scope, which waits for it; its report is lost.
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
