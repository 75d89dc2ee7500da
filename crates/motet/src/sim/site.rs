//! The sites of suspended tasks: every future of the library that can wait has a [`Site`].

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::runner::{Operation, SiteId, Waiting, current};

/// The call that created a future, for the reports of a simulation. Outside of a simulation it holds nothing.
///
/// # Drop
/// The task is not suspended here any more.
pub(crate) struct Site(Option<Box<Here>>);

struct Here {
    id: SiteId,
    waiting: Arc<Waiting>,
}

impl Site {
    /// Creates the site of the operation `kind: verb`, called by the caller of the function that calls this.
    #[track_caller]
    pub(crate) fn new(kind: &'static str, verb: &'static str) -> Self {
        Self::named(kind, verb, || None)
    }

    /// Like [`new`](Self::new), with the name that the user gave to the component.
    #[track_caller]
    pub(crate) fn named(
        kind: &'static str,
        verb: &'static str,
        name: impl FnOnce() -> Option<String>,
    ) -> Self {
        Self::located(kind, verb, name, Location::caller())
    }

    /// Like [`named`](Self::named), called at this line.
    pub(crate) fn located(
        kind: &'static str,
        verb: &'static str,
        name: impl FnOnce() -> Option<String>,
        at: &'static Location<'static>,
    ) -> Self {
        Self(current().map(|sim| {
            let operation = Operation { kind, verb, at };
            let waiting = Arc::new(Waiting { operation, name: name(), runs_code: false });
            Box::new(Here { id: sim.new_site(), waiting })
        }))
    }

    /// Attaches the site to a future.
    pub(crate) fn of<F: Future>(self, future: F) -> At<F> {
        At { future, site: self }
    }

    /// Attaches the site to a boxed future. Outside of a simulation it allocates nothing more.
    pub(crate) fn of_boxed<T: 'static>(
        self,
        future: Pin<Box<dyn Future<Output = T> + Send>>,
    ) -> Pin<Box<dyn Future<Output = T> + Send>> {
        if self.0.is_none() {
            return future;
        }
        Box::pin(self.of(future))
    }

    /// Marks the operation as one that runs code of its caller: if only this operation is suspended, then that code
    /// waits for a future of another crate.
    pub(crate) fn around(mut self) -> Self {
        if let Some(here) = &mut self.0 {
            Arc::make_mut(&mut here.waiting).runs_code = true;
        }
        self
    }

    /// Returns a site for a second future of the same call.
    pub(crate) fn another(&self) -> Self {
        Self(self.0.as_ref().and_then(|here| {
            Some(Box::new(Here { id: current()?.new_site(), waiting: Arc::clone(&here.waiting) }))
        }))
    }

    /// Begins a poll of the future.
    #[inline]
    pub(crate) fn enter(&self) -> Entered {
        Entered(self.0.as_ref().and_then(|here| {
            current()?.enter_site(here.id, &here.waiting);
            Some(here.id)
        }))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(here) = &self.0
            && let Some(sim) = current()
        {
            sim.drop_site(here.id);
        }
    }
}

/// A poll in progress.
pub(crate) struct Entered(Option<SiteId>);

impl Entered {
    /// Ends the poll with this result.
    #[inline]
    pub(crate) fn leave<T>(mut self, polled: Poll<T>) -> Poll<T> {
        if let Some(id) = self.0.take()
            && let Some(sim) = current()
        {
            sim.leave_site(id, polled.is_pending());
        }
        polled
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // The poll panicked.
        if let Some(id) = self.0.take()
            && let Some(sim) = current()
        {
            sim.leave_site(id, false);
        }
    }
}

/// Attaches the site of this call to a future.
#[track_caller]
pub(crate) fn at<F: Future>(kind: &'static str, verb: &'static str, future: F) -> At<F> {
    At { future, site: Site::new(kind, verb) }
}

/// Like [`at`], with the name that the user gave to the component.
#[track_caller]
pub(crate) fn at_named<F: Future>(
    kind: &'static str,
    verb: &'static str,
    name: impl FnOnce() -> Option<String>,
    future: F,
) -> At<F> {
    At { future, site: Site::named(kind, verb, name) }
}

/// Like [`at`], for an operation that runs code of its caller.
#[track_caller]
pub(crate) fn around<F: Future>(kind: &'static str, verb: &'static str, future: F) -> At<F> {
    At { future, site: Site::new(kind, verb).around() }
}

pin_project! {
    /// A future with its site.
    #[must_use = "futures do nothing unless awaited"]
    pub(crate) struct At<F> {
        #[pin]
        future: F,
        site: Site,
    }
}

impl<F: Future> Future for At<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let entered = this.site.enter();
        let polled = this.future.poll(cx);
        entered.leave(polled)
    }
}
