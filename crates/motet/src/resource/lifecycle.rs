//! The life of a resource of [`with`](super::Resource::with): opening, use, release.
//!
//! It is polled by the caller, in one allocation. If the caller is dropped before the end, the allocation moves into a task of
//! the enclosing scope, which goes on where the caller stopped. So a use that is not disturbed starts no task.
//!
//! | What happens | during `opening` | during the use | during the release |
//! |---|---|---|---|
//! | The caller is dropped: by its own code, or because its scope is cancelled or late | A task polls `opening` for at most the release timeout, then releases with `Cancelled` | A task releases with `Cancelled` | A task continues the same release, with the time that is left |
//! | Panic | The scope receives it, the caller gets `OpenEnded`, there is nothing to release | Rethrown after a release with `Panic` | A `ReleaseError` for the caller, or for the scope if the caller is gone |
//! | Panic of the drop of the future | The scope receives it; the resource is kept if it is open | The caller is dropped by it: see above | As a panic of the release |
//! | The runtime shuts down with the task | Nothing is open | Counted as lost, `on_lost` | Counted as lost |
//!
//! The release is counted as started and ended in the scope that enclosed the caller.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::pending_release::{OnLost, lost};
use super::{Exit, ResourceError};
use crate::sync::{catch, panic_words, quietly_drop};
use crate::task::core::Core;
use crate::task::end::inherit;
use crate::task::finalizer::{self, Event, ReleaseErrorCause};
use crate::task::outcome::IntoResult;
use crate::task::timeout::poll_limit;
use crate::task::{Name, ReleaseError, ambient, root};
use crate::{mutant, sim};

pin_project! {
    #[project = StageProjection]
    enum Stage<O, Fut> {
        Opening { #[pin] opening: O },
        /// The resource is open, and its release has not begun.
        Open,
        Releasing { #[pin] release: Fut },
        Ended,
    }
}

/// The scope that enclosed the caller, or its runtime if there was none.
///
/// The root of a runtime is created only when a task needs it. Until then no snapshot could show its counts.
enum Host {
    Scope(Arc<Core>),
    Runtime(Handle),
}

impl Host {
    /// Returns the scope, and keeps it from now on.
    fn scope(&mut self) -> &Arc<Core> {
        if let Self::Runtime(runtime) = self {
            *self = Self::Scope(root::of(runtime));
        }
        match self {
            Self::Scope(scope) => scope,
            Self::Runtime(_) => unreachable!("it was replaced"),
        }
    }

    /// Returns the scope if there is one, and keeps it from now on.
    fn existing(&mut self) -> Option<&Arc<Core>> {
        if let Self::Runtime(runtime) = self {
            *self = Self::Scope(root::existing(runtime)?);
        }
        Some(self.scope())
    }
}

pin_project! {
    pub(super) struct Lifecycle<O, R, C, Fut> {
        #[pin]
        stage: Stage<O, Fut>,
        // `Some` while the resource is open and its release has not begun.
        resource: Option<R>,
        close: Option<C>,
        on_lost: Option<OnLost<R>>,
        host: Host,
        name: Name,
        site: &'static Location<'static>,
        limit: Duration,
        // Set when the release first waits, unless the limit exceeds the range of the clock.
        deadline: Option<Instant>,
        has_waited: bool,
        // The release is counted as started, and not as ended.
        is_counted: bool,
    }

    impl<O, R, C, Fut> PinnedDrop for Lifecycle<O, R, C, Fut> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if *this.is_counted {
                this.host.scope().count_release(Event::Lost);
            }
            if let Some(resource) = this.resource.take() {
                lost(this.host.scope(), resource, this.on_lost.take());
            }
        }
    }
}

/// The settings of a resource.
pub(super) struct Settings<R, C> {
    pub(super) close: C,
    pub(super) on_lost: Option<OnLost<R>>,
    pub(super) name: Name,
    pub(super) site: &'static Location<'static>,
    pub(super) limit: Duration,
}

impl<O, R, E, C, Fut> Lifecycle<O, R, C, Fut>
where
    O: Future<Output = Result<R, E>>,
    C: FnOnce(R, Exit) -> Fut,
    Fut: Future<Output: IntoResult>,
{
    /// # Panics
    /// Outside of a runtime, where no task could release the resource of a dropped caller.
    pub(super) fn new(opening: O, settings: Settings<R, C>) -> Self {
        let Settings { close, on_lost, name, site, limit } = settings;
        let host = ambient::current().map_or_else(|| Host::Runtime(Handle::current()), Host::Scope);
        Self {
            stage: Stage::Opening { opening },
            resource: None,
            close: Some(close),
            on_lost,
            host,
            name,
            site,
            limit,
            deadline: None,
            has_waited: false,
            is_counted: false,
        }
    }

    pub(super) fn poll_open(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ResourceError<E>>> {
        let mut this = self.project();
        let StageProjection::Opening { opening } = this.stage.as_mut().project() else {
            unreachable!("a resource is opened once")
        };
        let opened = match catch_unwind(AssertUnwindSafe(|| opening.poll(cx))) {
            Ok(polled) => Ok(ready!(polled)),
            Err(payload) => Err(payload),
        };
        let panicked = |host: &mut Host, payload| {
            // A task that polls `opening` may belong to another scope, since the scope of the caller has ended.
            let scope = ambient::current().unwrap_or_else(|| Arc::clone(host.scope()));
            scope.task_panicked(this.name.clone(), payload);
        };
        let result = match opened {
            Ok(Ok(resource)) => {
                *this.resource = Some(resource);
                Ok(())
            }
            Ok(Err(error)) => Err(ResourceError::Open(error)),
            Err(payload) => {
                panicked(this.host, payload);
                Err(ResourceError::OpenEnded)
            }
        };
        let next = if result.is_ok() { Stage::Open } else { Stage::Ended };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.stage.set(next))) {
            panicked(this.host, payload);
        }
        Poll::Ready(result)
    }

    /// The open resource.
    pub(super) fn resource(self: Pin<&mut Self>) -> &mut R {
        self.project().resource.as_mut().expect("it is open")
    }

    /// Begins the release, or continues it, and waits for its end.
    pub(super) async fn release(mut self: Pin<&mut Self>, exit: Exit) -> Result<(), ReleaseError> {
        let is_open = matches!(self.stage, Stage::Open);
        if is_open && mutant!("resource.forget_release") {
            drop(self.as_mut().project().resource.take());
            self.as_mut().project().stage.set(Stage::Ended);
            return Ok(());
        }
        let begun = if is_open { self.as_mut().begin(exit) } else { Ok(()) };
        let outcome = match begun {
            Ok(()) => self.as_mut().wait().await,
            Err(panicked) => Err(panicked),
        };
        self.ended(outcome)
    }

    fn begin(self: Pin<&mut Self>, exit: Exit) -> Result<(), ReleaseErrorCause> {
        let mut this = self.project();
        let (Some(resource), Some(close)) = (this.resource.take(), this.close.take()) else {
            unreachable!("a resource is released once")
        };
        let begun = catch(|| close(resource, exit));
        sim::op("resource.release");
        if let Some(scope) = this.host.existing() {
            scope.count_release(Event::Started);
            *this.is_counted = true;
        }
        match begun {
            Ok(release) => {
                this.stage.set(Stage::Releasing { release });
                Ok(())
            }
            Err(panic) => {
                this.stage.set(Stage::Ended);
                Err(ReleaseErrorCause::Panicked(panic))
            }
        }
    }

    /// Waits for the release within its limit. The clock is read when the release first waits.
    async fn wait(mut self: Pin<&mut Self>) -> Result<(), ReleaseErrorCause> {
        let mut timer = pin!(None::<Sleep>);
        std::future::poll_fn(|cx| {
            let had_budget = has_budget_remaining();
            if let Poll::Ready(outcome) = self.as_mut().poll_release(cx) {
                return Poll::Ready(outcome);
            }
            if timer.is_none() {
                timer.set(self.as_mut().deadline().map(sleep_until));
            }
            let Some(timer) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
            ready!(poll_limit(timer, had_budget, cx));
            Poll::Ready(self.as_mut().cut_off())
        })
        .await
    }

    fn poll_release(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ReleaseErrorCause>> {
        let mut this = self.project();
        let StageProjection::Releasing { release } = this.stage.as_mut().project() else {
            unreachable!("the release has begun and not ended")
        };
        let polled = || release.poll(cx).map(IntoResult::into_result);
        let ended = match catch_unwind(AssertUnwindSafe(polled)) {
            Ok(polled) => Ok(ready!(polled)),
            Err(payload) => Err(payload),
        };
        // Dropped here, where a panic of its drop is caught.
        let dropped = catch(|| this.stage.set(Stage::Ended));
        Poll::Ready(match (ended, dropped) {
            (ended, Err(panic)) => {
                quietly_drop(ended);
                Err(ReleaseErrorCause::Panicked(panic))
            }
            (Err(payload), Ok(())) => Err(ReleaseErrorCause::Panicked(panic_words(payload))),
            (Ok(outcome), Ok(())) => outcome.map_err(ReleaseErrorCause::Returned),
        })
    }

    /// The deadline of a release that waits.
    fn deadline(self: Pin<&mut Self>) -> Option<Instant> {
        let this = self.project();
        if !*this.has_waited {
            *this.has_waited = true;
            *this.deadline = Instant::now().checked_add(*this.limit);
            if !*this.is_counted {
                this.host.scope().count_release(Event::Started);
                *this.is_counted = true;
            }
        }
        *this.deadline
    }

    /// Drops a release whose time is over.
    fn cut_off(self: Pin<&mut Self>) -> Result<(), ReleaseErrorCause> {
        let mut this = self.project();
        Err(match catch(|| this.stage.set(Stage::Ended)) {
            Ok(()) => ReleaseErrorCause::TimedOut(*this.limit),
            Err(panic) => ReleaseErrorCause::Panicked(panic),
        })
    }

    fn ended(self: Pin<&mut Self>, outcome: Result<(), ReleaseErrorCause>) -> Result<(), ReleaseError> {
        let this = self.project();
        if std::mem::take(this.is_counted) {
            this.host.scope().count_release(finalizer::end_of(&outcome));
        }
        outcome.map_err(|source| finalizer::failed(this.host.scope(), this.name.clone(), source))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// The scope, the name and the site of the task that continues in place of the caller.
    pub(super) fn task(self: Pin<&mut Self>) -> (Arc<Core>, Name, &'static Location<'static>) {
        let this = self.project();
        (Arc::clone(this.host.scope()), this.name.clone(), *this.site)
    }

    /// Continues in place of a caller that was dropped.
    pub(super) async fn finish(mut self: Pin<&mut Self>) {
        if matches!(self.stage, Stage::Opening { .. }) && !self.as_mut().open_within_limit().await {
            return;
        }
        if let Err(failed) = self.release(Exit::Cancelled).await {
            // No caller waits for the release: the scope that adopted it reports the error.
            inherit(Vec::new(), vec![failed]);
        }
    }

    /// Opens the resource within the release timeout, which begins now. Returns `false` if there is nothing to release.
    ///
    /// Dropping an open connection attempt half-way may leave something behind at the other end, so it is not dropped
    /// with its caller.
    async fn open_within_limit(mut self: Pin<&mut Self>) -> bool {
        let limit = self.limit;
        let mut given_up = pin!(sleep(limit));
        std::future::poll_fn(|cx| {
            let had_budget = has_budget_remaining();
            if let Poll::Ready(opened) = self.as_mut().poll_open(cx) {
                return Poll::Ready(opened.is_ok());
            }
            poll_limit(given_up.as_mut(), had_budget, cx).map(|()| {
                super::open::log_slow(limit);
                false
            })
        })
        .await
    }
}
