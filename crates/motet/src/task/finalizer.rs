//! The pending releases of a scope: its stack of resources.

use std::convert::Infallible;
use std::error::Error;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::ambient::{Inside, shielded};
use super::caught::Caught;
use super::child::{Plain, Spec, Stop, launch};
use super::core::{Core, State};
use super::end::adopt;
pub(crate) use super::error::ReleaseErrorCause;
use super::failure::Failure;
use super::timeout::within;
use super::{Name, ReleaseError};
use crate::resource::{Exit, PendingRelease};
use crate::sync::{Class, catch, panic_words, quietly_drop};
use crate::{mutant, sim};

pub(crate) type ReleaseFuture =
    Pin<Box<dyn Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send>>;

/// The handle of a release that was started.
pub(crate) type Running = JoinHandle<Result<Result<(), ReleaseError>, Failure<Infallible>>>;

/// The default timeout of a release: longer than a round trip to a slow database, shorter than the time after which an
/// operator or a supervisor kills the process.
pub(crate) const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A pending release.
pub(crate) struct Finalizer {
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    /// The timeout of the release; `None` for the release timeout of the scope.
    pub(crate) limit: Option<Duration>,
    pub(crate) pending: Box<dyn PendingRelease>,
}

/// The counts of releases in a scope and its nested scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReleaseCounts {
    /// Releases that were started.
    pub started: u64,
    /// Releases that ended, with or without an error.
    pub finished: u64,
    /// Releases that exceeded their timeout and were dropped.
    pub timed_out: u64,
    /// Resources that were not released: the runtime shut down first, or the guard of the resource outlived its scope.
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
    /// Counts the event in this scope and in every enclosing scope.
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
            if mutant!("release.count_here_only") {
                core = None;
            }
        }
    }
}

/// The pending releases of a scope that were started.
pub(crate) enum Releasing {
    /// No release was pending.
    Nothing,
    Ended,
    /// They wait, in a task.
    Task(JoinHandle<Result<(), Failure<Infallible>>>),
}

/// Starts the pending releases, last in first out. They are polled in place once. If they wait, they continue in a task of the
/// scope that is not cancelled.
pub(crate) fn start(core: &Arc<Core>) -> Releasing {
    let last = core.state().finalizers.last_key_value().map(|(_, last)| last.site);
    let Some(site) = last else { return Releasing::Nothing };
    let scope = Arc::clone(core);
    let mut releases = Box::pin(shielded(async move {
        loop {
            // One at a time, since a release may register further releases.
            let next = scope.state().next_release();
            let Some(finalizer) = next else { return };
            let exit = scope.exit();
            let limit = finalizer.limit.unwrap_or(scope.release_timeout);
            if let Err(failed) = run(&scope, finalizer.name, limit, finalizer.pending, exit).await {
                scope.state().release_failures.push(failed);
            }
        }
    }));
    // A simulation tries both.
    let as_task = sim::choice(EITHER) == Some(0);
    if !as_task {
        // The waker does nothing: a task polls the releases again at once.
        let mut cx = Context::from_waker(Waker::noop());
        let _inside = Inside::enter(core);
        match catch_unwind(AssertUnwindSafe(|| releases.as_mut().poll(&mut cx))) {
            Ok(Poll::Ready(())) => return Releasing::Ended,
            Ok(Poll::Pending) => {}
            Err(payload) => {
                core.task_panicked(Name::from(RELEASE), payload);
                return Releasing::Ended;
            }
        }
    }
    let mut stop = Stop::Never;
    if mutant!("resource.unshielded") {
        stop = Stop::Drop;
    }
    let spec = Spec::new(Name::from(RELEASE), site, Class::Work, stop);
    // The end of the scope calls this, so the scope is still open.
    match launch::<_, Plain>(core, spec, releases) {
        Ok(task) => Releasing::Task(task),
        Err(_) => Releasing::Nothing,
    }
}

/// The name of the task in which a scope releases its resources.
const RELEASE: &str = "release";

const EITHER: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not zero");

/// Drops the pending releases: the runtime is gone. Each counts itself as lost.
pub(crate) fn lose(core: &Core) {
    let pending = std::mem::take(&mut core.state().finalizers);
    // Outside of the lock: the releases hold values of users.
    drop(pending);
}

/// Registers a release for the end of the scope, and returns its number. `limit` is its timeout; `None` for the release
/// timeout of the scope. The caller is a member of the scope, so the scope is open.
pub(crate) fn push(
    core: &Core,
    name: Name,
    site: &'static Location<'static>,
    limit: Option<Duration>,
    pending: Box<dyn PendingRelease>,
) -> u64 {
    let mut state = core.state();
    let id = state.next_finalizer;
    state.next_finalizer += 1;
    state.finalizers.insert(id, Finalizer { name, site, limit, pending });
    id
}

/// Removes a pending release from the scope; `None` if the scope has started it. The caller drops it outside of any lock: it
/// holds values of a user.
pub(crate) fn take(core: &Core, id: u64) -> Option<Finalizer> {
    core.state().finalizers.remove(&id)
}

/// The scope, the number and the name of a pending release.
#[derive(Clone)]
pub(crate) struct Pending {
    pub(crate) core: Arc<Core>,
    pub(crate) id: u64,
    pub(crate) name: Name,
}

/// Runs a pending release now, in a task of the scope.
pub(crate) async fn release_now(pending: Pending, exit: Exit) -> Result<(), ReleaseError> {
    let Pending { core, id, name } = pending;
    let Some(Finalizer { site, limit, pending, .. }) = take(&core, id) else {
        return Err(ReleaseError { resource: name, source: ReleaseErrorCause::ScopeEnded });
    };
    let (scope, limit) = (Arc::clone(&core), limit.unwrap_or(core.release_timeout));
    let named = name.clone();
    let released = adopt(&core, &name, site, async move { run(&scope, named, limit, pending, exit).await });
    outcome(released, name).await
}

/// Waits for a release that was started.
pub(crate) async fn outcome(released: Running, resource: Name) -> Result<(), ReleaseError> {
    let source = match released.await {
        Ok(Ok(outcome)) => return outcome,
        Ok(Err(failed)) => ReleaseErrorCause::Panicked(failed.received().to_string()),
        Err(_) => ReleaseErrorCause::CutOff,
    };
    Err(ReleaseError { resource, source })
}

/// Runs one release within its timeout, and counts it.
pub(crate) async fn run(
    core: &Core,
    resource: Name,
    limit: Duration,
    pending: Box<dyn PendingRelease>,
    exit: Exit,
) -> Result<(), ReleaseError> {
    let begun = match catch(|| pending.begin(exit)) {
        // The guard is still alive: the release counted itself as lost.
        Ok(None) => return Ok(()),
        Ok(Some(release)) => Ok(release),
        Err(panic) => Err(ReleaseErrorCause::Panicked(panic)),
    };
    sim::op("resource.release");
    core.count_release(Event::Started);
    let mut counted = Counted { core, event: Event::Lost };
    let outcome = match begun {
        Ok(mut release) => {
            let ended = within(limit, Caught::new(&mut release)).await;
            // Dropped here, where a panic of its drop is caught.
            let dropped = catch(|| drop(release));
            match (ended, dropped) {
                (ended, Err(panic)) => {
                    quietly_drop(ended);
                    Err(ReleaseErrorCause::Panicked(panic))
                }
                (Some(Err(payload)), Ok(())) => Err(ReleaseErrorCause::Panicked(panic_words(payload))),
                (Some(Ok(outcome)), Ok(())) => outcome.map_err(ReleaseErrorCause::Returned),
                (None, Ok(())) => Err(ReleaseErrorCause::TimedOut(limit)),
            }
        }
        Err(panicked) => Err(panicked),
    };
    counted.event = end_of(&outcome);
    outcome.map_err(|source| failed(core, resource, source))
}

/// The event that counts the end of a release.
pub(crate) fn end_of(outcome: &Result<(), ReleaseErrorCause>) -> Event {
    if mutant!("release.finished_late") {
        return Event::Finished;
    }
    match outcome {
        Err(ReleaseErrorCause::TimedOut(_)) => Event::TimedOut,
        _ => Event::Finished,
    }
}

/// Logs the error of a release.
pub(crate) fn failed(core: &Core, resource: Name, source: ReleaseErrorCause) -> ReleaseError {
    crate::log::error!(scope = %core.name, %resource, error = &source as &dyn Error, "a release failed");
    ReleaseError { resource, source }
}

impl State {
    fn next_release(&mut self) -> Option<Finalizer> {
        if mutant!("resource.first_in_first_out") {
            return self.finalizers.pop_first().map(|(_, first)| first);
        }
        self.finalizers.pop_last().map(|(_, last)| last)
    }
}

/// Counts a release as lost if it is dropped before its end, which means that the runtime shuts down.
struct Counted<'a> {
    core: &'a Core,
    event: Event,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.core.count_release(self.event);
    }
}
