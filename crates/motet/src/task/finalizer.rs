//! Releases that a scope owes: its resource stack.

use std::error::Error;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::child::{Plain, Spec, Stop, launch};
use super::core::{Core, panic_message};
use super::error::ReleaseError;
use super::gate::Class;
use super::{Exit, Name, ReleaseFailed};

pub(crate) type ReleaseFuture =
    Pin<Box<dyn Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send>>;

/// One release, still owed.
pub(crate) struct Finalizer {
    pub(crate) id: u64,
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    pub(crate) timeout: Duration,
    /// Begins the release; `None` when the resource is out of reach: its guard left the scope.
    pub(crate) begin: Box<dyn FnOnce(Exit) -> Option<ReleaseFuture> + Send>,
}

/// Counts of releases, in a scope and all scopes below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReleaseCounts {
    /// Releases that were begun.
    pub started: u64,
    /// Releases that came to their end, also with an error.
    pub finished: u64,
    /// Releases that were dropped because they took too long.
    pub timed_out: u64,
    /// Resources that were never released: the runtime went away first, or the resource was taken out of its
    /// scope.
    pub lost: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    started: AtomicU64,
    finished: AtomicU64,
    timed_out: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Started,
    Finished,
    TimedOut,
    Lost,
}

impl Counters {
    pub(crate) fn read(&self) -> ReleaseCounts {
        ReleaseCounts {
            started: self.started.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

impl Core {
    /// Counts the event here and in every scope around.
    pub(crate) fn count_release(&self, event: Event) {
        let mut core = Some(self);
        while let Some(one) = core {
            let counter = match event {
                Event::Started => &one.releases.started,
                Event::Finished => &one.releases.finished,
                Event::TimedOut => &one.releases.timed_out,
                Event::Lost => &one.releases.lost,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            core = one.parent.as_deref();
        }
    }
}

/// Starts the releases that are owed, last in first out, as a task of the scope that nothing cancels; false
/// when none is owed.
pub(crate) fn start(core: &Arc<Core>) -> bool {
    let Some(last) = core.state().finalizers.last().map(|last| last.site) else { return false };
    let spec =
        Spec { name: Name::from("release"), site: last, class: Class::Work, stop: Stop::Never, token: None };
    let scope = Arc::clone(core);
    let releases = async move {
        loop {
            // One at a time: a release may register another.
            let next = scope.state().finalizers.pop();
            let Some(finalizer) = next else { return };
            let (name, limit) = (finalizer.name, finalizer.timeout);
            let exit = scope.exit();
            let begin = finalizer.begin;
            if let Err(failed) = run(&scope, name, limit, move || begin(exit)).await {
                scope.state().release_failures.push(failed);
            }
        }
    };
    // The scope's own end calls this, so the scope is open.
    launch::<_, Plain>(core, spec, releases).is_ok()
}

/// Runs one release within its limit, and counts it.
pub(crate) async fn run(
    core: &Core,
    resource: Name,
    limit: Duration,
    begin: impl FnOnce() -> Option<ReleaseFuture>,
) -> Result<(), ReleaseFailed> {
    core.count_release(Event::Started);
    let mut counted = Counted { core, event: Event::Lost };
    let outcome = match catch_unwind(AssertUnwindSafe(begin)) {
        Ok(None) => return Ok(()),
        Ok(Some(release)) => match timeout(limit, caught(release)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                counted.event = Event::TimedOut;
                Err(ReleaseError::TimedOut(limit))
            }
        },
        Err(payload) => Err(ReleaseError::Panicked(panic_message(&*payload).to_owned())),
    };
    if counted.event as u8 == Event::Lost as u8 {
        counted.event = Event::Finished;
    }
    outcome.map_err(|source| {
        tracing::error!(scope = %core.name, %resource, error = &source as &dyn Error, "a release failed");
        ReleaseFailed { resource, source }
    })
}

/// Counts a release as lost when it is dropped before its end: the runtime goes away.
struct Counted<'a> {
    core: &'a Core,
    event: Event,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.core.count_release(self.event);
    }
}

async fn caught(mut release: ReleaseFuture) -> Result<(), ReleaseError> {
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| release.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(outcome)) => Poll::Ready(outcome.map_err(ReleaseError::Returned)),
        Err(payload) => Poll::Ready(Err(ReleaseError::Panicked(panic_message(&*payload).to_owned()))),
    })
    .await
}
