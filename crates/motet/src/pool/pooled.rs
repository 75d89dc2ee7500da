use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::manager::Manager;
use super::shared::{Member, Shared};

/// A connection of a pool, in use; it derefs to the connection.
///
/// # Drop
/// The connection goes back: to whoever has waited longest, or to those that are idle. It is closed instead if it was
/// [poisoned](Self::poison), if [`Manager::recycle`] says so, if its lifetime is over, if the pool is closed or has
/// become too small for it, and if it is dropped while its holder panics. Nothing is waited for. A task is started
/// only to close it; if the scope of the pool has ended, the connection is dropped right here.
///
/// A panic is seen where the guard is dropped by its unwinding. A guard that is kept somewhere else meanwhile, and
/// dropped later, is returned like any other.
#[must_use = "dropped, the connection goes back at once"]
pub struct Pooled<M: Manager> {
    /// `None` only while it is dropped.
    entry: Option<Member<M>>,
    shared: Arc<Shared<M>>,
}

impl<M: Manager> Pooled<M> {
    #[inline]
    pub(super) fn new(
        shared: &Arc<Shared<M>>,
        mut entry: Member<M>,
        site: &'static Location<'static>,
    ) -> Self {
        if shared.settings.keeps_holders {
            entry.what.held = Some(shared.change(|state, todo| state.hold(Instant::now(), site, todo)));
        }
        Self { entry: Some(entry), shared: Arc::clone(shared) }
    }

    /// Has the connection closed when it is returned: it is broken, or in a state that nobody should find it in.
    pub fn poison(&mut self) {
        self.member().what.is_poisoned = true;
    }

    /// Takes the connection out of the pool, which may make another in its place.
    #[must_use]
    pub fn detach(mut self) -> M::Connection {
        let Some(mut entry) = self.entry.take() else { unreachable!("there until the guard is dropped") };
        let held = entry.what.held.take();
        self.shared.change(|state, todo| {
            held.into_iter().for_each(|held| state.let_go(held));
            state.detach(&entry, Instant::now(), todo);
        });
        entry.what.connection
    }

    fn member(&mut self) -> &mut Member<M> {
        self.entry.as_mut().expect("there until the guard is dropped")
    }
}

impl<M: Manager> Deref for Pooled<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.entry.as_ref().expect("there until the guard is dropped").what.connection
    }
}

impl<M: Manager> DerefMut for Pooled<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.member().what.connection
    }
}

impl<M: Manager> Drop for Pooled<M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.shared.release(entry);
        }
    }
}

impl<M: Manager> fmt::Debug for Pooled<M>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
