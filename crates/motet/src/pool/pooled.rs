use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::manager::Manager;
use super::shared::{Member, PoolShared};

/// A guard of a connection of a pool, which dereferences to the connection.
///
/// # Drop
/// The connection returns to the pool: to the caller that has waited longest, or to the idle connections. It is closed
/// instead if it was [poisoned](Self::poison), if [`Manager::recycle`] discards it, if its lifetime is over, if the
/// pool is closed or has become too small for it, or if the guard is dropped while its thread panics. The drop does
/// not wait: a connection is closed in a task of the pool's scope. If that scope has ended, the connection is dropped in
/// place.
///
/// A panic is detected only if its unwinding drops the guard. A guard that survives the panic elsewhere and is dropped
/// later returns its connection as usual.
#[must_use = "the connection returns to the pool when the guard is dropped"]
pub struct Pooled<M: Manager> {
    /// `None` only during the drop.
    entry: Option<Member<M>>,
    shared: Arc<PoolShared<M>>,
}

impl<M: Manager> Pooled<M> {
    #[inline]
    pub(super) fn new(
        shared: &Arc<PoolShared<M>>,
        mut entry: Member<M>,
        site: &'static Location<'static>,
    ) -> Self {
        if shared.settings.keeps_holders {
            entry.what.held = Some(shared.change(|state, todo| state.hold(Instant::now(), site, todo)));
        }
        Self { entry: Some(entry), shared: Arc::clone(shared) }
    }

    /// Marks the connection as broken: it is closed instead of returned.
    pub fn poison(&mut self) {
        self.member().what.is_poisoned = true;
    }

    /// Removes the connection from the pool, and returns it. The pool may open another one instead.
    #[must_use]
    pub fn detach(mut self) -> M::Connection {
        let Some(mut entry) = self.entry.take() else {
            unreachable!("the entry is present until the guard is dropped")
        };
        let held = entry.what.held.take();
        self.shared.change(|state, todo| {
            held.into_iter().for_each(|held| state.release_holder(held));
            state.detach(&entry, Instant::now(), todo);
        });
        entry.what.connection
    }

    fn member(&mut self) -> &mut Member<M> {
        self.entry.as_mut().expect("the entry is present until the guard is dropped")
    }
}

impl<M: Manager> Deref for Pooled<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.entry.as_ref().expect("the entry is present until the guard is dropped").what.connection
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
