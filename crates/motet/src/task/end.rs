//! The end of a scope: by itself, or adopted by another scope when its future is dropped.

use std::any::Any;
use std::convert::Infallible;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use super::ambient;
use super::child::{Plain, Spec, Stop, launch};
use super::core::{Core, Level};
use super::failure::{Failure, is_first};
use super::finalizer::{self, Releasing};
use super::{Name, Policy, Reason, ReasonKind, ReleaseError};
use crate::mutant;
use crate::sync::{Class, quietly_drop};

/// The time after which a scope logs, once, the names of the cancelled tasks that it still waits for; its grace period, if that is
/// longer.
const WARN_AFTER: Duration = Duration::from_secs(5);

/// Waits for all tasks of the scope, cancels its services, releases its resources and closes it.
pub(crate) async fn finish(core: &Arc<Core>) {
    loop {
        if mutant!("scope.release_before_join") {
            drop(finalizer::start(core));
        }
        work(core).await;
        core.raise_for(Level::Services, || Reason::of(ReasonKind::Ended));
        gone(core, Class::Service).await;
        match finalizer::start(core) {
            Releasing::Task(releases) => {
                let ran = releases.await;
                // A task is dropped unpolled only if the runtime is gone.
                drop(ran.map_err(|_| finalizer::lose(core)));
            }
            Releasing::Nothing if core.close() => return,
            Releasing::Nothing | Releasing::Ended => {}
        }
    }
}

async fn work(core: &Arc<Core>) {
    let settled = core.wait(|core| core.gate.count(Class::Work) == 0 || core.reached(Level::Work));
    match core.deadline {
        Some(at) if !core.reached(Level::Work) => {
            if timeout_at(at, settled).await.is_err() {
                core.raise(Level::Work, &Reason::of(ReasonKind::Deadline));
            }
        }
        _ => settled.await,
    }
    gone(core, Class::Work).await;
}

/// Waits until no child of the class is left, and logs the names of children that take long.
async fn gone(core: &Arc<Core>, class: Class) {
    let none = |core: &Core| core.gate.count(class) == 0;
    if none(core) {
        return;
    }
    // Its cooperative children may take their grace period.
    let warn_after = WARN_AFTER.max(core.grace);
    if timeout(warn_after, core.wait(none)).await.is_err() {
        let names = core.names(class);
        let left = core.gate.count(class);
        crate::log::warn!(scope = %core.name, left, ?names, "a scope still waits for tasks that it cancelled");
        core.wait(none).await;
    }
}

/// Ends a scope whose future was dropped: cancels its children at once, and hands them to the nearest enclosing scope that is
/// still open, which waits for them.
pub(crate) fn abandon(core: Arc<Core>, place: Option<usize>) {
    core.raise(Level::Work, &Reason::of(ReasonKind::Dropped));
    if core.close() {
        unlist(&core, place);
        return;
    }
    if mutant!("scope.orphan_children") {
        return;
    }
    let (name, site, parent) = (core.name.clone(), core.site, core.parent.clone());
    // The root has no future that could be dropped, so every scope here has a parent.
    let Some(parent) = parent else { return };
    let rest = Unfinished(core);
    drop(adopt(&parent, &name, site, async move {
        let core = &rest.0;
        finish(core).await;
        unlist(core, place);
        let mut state = core.state();
        let (panics, release) =
            (std::mem::take(&mut state.panics), std::mem::take(&mut state.release_failures));
        let failures = std::mem::take(&mut state.failures);
        drop(state);
        if !failures.is_empty() && is_first(core.site) {
            let (scope, site, lost) = (&core.name, core.site, failures.len());
            crate::log::warn!(%scope, %site, lost, "errors of tasks were lost: the future of their scope was dropped");
        }
        quietly_drop(failures);
        inherit(panics, release);
    }));
}

/// Passes the failures of a scope without a waiter to the scope that adopted it.
pub(crate) fn inherit(panics: Vec<Box<dyn Any + Send>>, release: Vec<ReleaseError>) {
    let Some(host) = ambient::current() else { return };
    let panicked = !panics.is_empty() && host.policy != Policy::Isolate;
    let mut state = host.state();
    state.release_failures.extend(release);
    if panicked {
        state.panics.extend(panics);
    }
    drop(state);
    if panicked {
        let text = Name::from("a scope that was dropped before its end");
        host.raise(Level::Work, &Reason::new(ReasonKind::Panicked, None, Some(text)));
    }
}

/// A scope that is ended by the scope that adopted it. If the runtime drops it before its end, it drops its pending
/// releases: a release and its scope keep each other alive, and would both be leaked.
struct Unfinished(Arc<Core>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        finalizer::lose(&self.0);
    }
}

/// Runs the future as a task that is not cancelled, in the scope or, if it has ended, in the nearest enclosing scope that is
/// open.
pub(crate) fn adopt<F>(
    scope: &Arc<Core>,
    name: &Name,
    site: &'static Location<'static>,
    future: F,
) -> JoinHandle<Result<F::Output, Failure<Infallible>>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut host = scope;
    if mutant!("scope.adopt_above") {
        host = scope.parent.as_ref().unwrap_or(scope);
    }
    let mut future = ambient::shielded(future);
    loop {
        let spec = Spec::new(name.clone(), site, Class::Work, Stop::Never);
        match launch::<_, Plain>(host, spec, future) {
            Ok(join) => {
                if host.parent.is_none() {
                    crate::log::warn!(task = %name, %site, "a task runs without an enclosing scope: await `motet::drain()` before the program ends");
                }
                return join;
            }
            Err(refused) => future = refused,
        }
        host = host.parent.as_ref().expect("a root never closes, so it has taken the task");
    }
}

/// Removes the scope from the list of its parent.
pub(crate) fn unlist(core: &Core, place: Option<usize>) {
    if let (Some(parent), Some(place)) = (&core.parent, place) {
        let listed = parent.state().scopes.try_remove(place);
        drop(listed);
    }
}

/// Adds the scope to the list of its parent, for snapshots.
pub(crate) fn list(core: &Arc<Core>) -> Option<usize> {
    core.parent.as_ref().map(|parent| parent.state().scopes.insert(Arc::downgrade(core)))
}
