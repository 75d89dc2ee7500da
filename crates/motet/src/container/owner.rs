//! A store, and the release that its scope owes for it.

use std::panic::Location;
use std::sync::Arc;

use super::StopReport;
use super::stop::StopOwed;
use super::store::{Life, Store};
use crate::resource::Exit;
use crate::task::end::{adopt, inherit};
use crate::task::finalizer::{self, Finalizer};
use crate::task::gate::Class;
use crate::task::member::Member;
use crate::task::{Name, Reason};

/// Who may stop a store before its scope does.
pub(crate) struct Owner {
    store: Arc<Store>,
    /// The number of the release.
    owed: u64,
}

impl Owner {
    /// Owes the stop of the store to the end of its scope; `None` if that has ended.
    pub(crate) fn new(store: Arc<Store>, name: Name, site: &'static Location<'static>) -> Option<Self> {
        let limit = Some(store.stop_limit());
        // Counted in for the moment, so that the scope cannot close before the registration.
        let Some(_member) = Member::enter(&store.host, Class::Work) else {
            // Nothing was built.
            store.state().phase = Life::Closed;
            return None;
        };
        let owed = Box::new(StopOwed(Some(Arc::clone(&store))));
        let owed = finalizer::push(&store.host, name, site, limit, owed);
        Some(Self { store, owed })
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Stops the store now, and says how it went. Goes on in the scope when it is dropped.
    pub(crate) async fn stop(self, reason: Reason) -> StopReport {
        let store = Arc::clone(&self.store);
        self.begin(reason, |_| {});
        // Or the scope has begun to.
        store.until(|state| (state.phase == Life::Closed).then_some(())).await;
        let report = store.state().report.take();
        report.unwrap_or_else(StopReport::of_cut_off)
    }

    /// Stops the store in the scope, which hears of what goes wrong.
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
        self.store.cancel.cancel(reason);
        let Some(Finalizer { name, site, limit, owed, .. }) = finalizer::take(&self.store.host, self.owed)
        else {
            return;
        };
        let (host, named) = (Arc::clone(&self.store.host), name.clone());
        let limit = limit.unwrap_or(host.release_timeout);
        drop(adopt(&self.store.host, &named, site, async move {
            then(finalizer::run(&host, name, limit, owed, Exit::Ok).await);
        }));
    }
}
