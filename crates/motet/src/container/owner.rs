//! A store, and the pending cleanup of its scope that stops it.

use std::panic::Location;
use std::sync::Arc;

use super::StopReport;
use super::stop::PendingStop;
use super::store::{Store, StoreLife};
use crate::resource::Exit;
use crate::sync::Class;
use crate::task::end::{adopt, inherit};
use crate::task::finalizer::{self, Finalizer};
use crate::task::member::Member;
use crate::task::{Name, Reason};

/// The right to stop a store before its scope does.
pub(crate) struct StoreOwner {
    store: Arc<Store>,
    /// The number of the pending cleanup.
    cleanup: u64,
}

impl StoreOwner {
    /// Registers a cleanup of the scope that stops the store. Returns `None` if the scope has ended.
    pub(crate) fn new(store: Arc<Store>, name: Name, site: &'static Location<'static>) -> Option<Self> {
        let limit = Some(store.stop_limit());
        // The member keeps the scope from closing until the cleanup is registered.
        let Some(_member) = Member::enter(&store.host, Class::Work) else {
            // No component was built.
            store.state().phase = StoreLife::Closed;
            return None;
        };
        let pending = Box::new(PendingStop(Some(Arc::clone(&store))));
        let pending = finalizer::push(&store.host, name, site, limit, pending);
        Some(Self { store, cleanup: pending })
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Stops the store now, and returns the report. If the future is dropped, the stop continues in the scope.
    pub(crate) async fn stop(self, reason: Reason) -> StopReport {
        let store = Arc::clone(&self.store);
        self.begin(reason, |_| {});
        // The scope may have begun the stop instead.
        store.until(|state| (state.phase == StoreLife::Closed).then_some(())).await;
        let report = store.state().report.take();
        report.unwrap_or_else(StopReport::of_cut_off)
    }

    /// Stops the store in the scope, which receives the failures.
    pub(crate) fn stop_later(self, reason: Reason) {
        self.begin(reason, |ended| {
            if let Err(failed) = ended {
                inherit(Vec::new(), vec![failed]);
            }
        });
    }

    fn begin<F>(self, reason: Reason, then: F)
    where
        F: FnOnce(Result<(), crate::task::ReleaseError>) + Send + 'static,
    {
        self.store.cancel(reason);
        let Some(Finalizer { name, site, limit, pending, .. }) =
            finalizer::take(&self.store.host, self.cleanup)
        else {
            return;
        };
        let (host, named) = (Arc::clone(&self.store.host), name.clone());
        let limit = limit.unwrap_or(host.release_timeout);
        drop(adopt(&self.store.host, &named, site, async move {
            then(finalizer::run(&host, name, limit, pending, Exit::Ok).await);
        }));
    }
}
