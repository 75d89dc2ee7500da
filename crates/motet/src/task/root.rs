//! The root scope of a runtime, for tasks and scopes without an enclosing scope.

use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::Location;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use super::blocking::{BLOCKING_LIMIT, BlockingPool};
use super::child::{Plain, Spec, Stop, launch};
use super::core::{Core, Settings};
use super::finalizer::RELEASE_TIMEOUT;
use super::span::TaskSpan;
use super::{Name, Policy};
use crate::sync::{Class, WakerSet, WakerSetEntry};
use crate::{mutant, sim};

static ROOTS: LazyLock<Mutex<HashMap<Id, Root>>> = LazyLock::new(Mutex::default);

struct Root {
    /// Alive while a scope or an adopted task of its runtime exists.
    core: Weak<Core>,
    /// Wakes the drains: a root can have any number of them, where a scope has a single end.
    drains: Arc<WakerSet>,
}

/// Returns the root of the runtime, and creates it if there is none.
pub(crate) fn of(runtime: &Handle) -> Arc<Core> {
    let mut roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(core) = roots.get(&runtime.id()).and_then(|root| root.core.upgrade()) {
        return core;
    }
    // Removes the roots of runtimes that are gone.
    roots.retain(|_, root| root.core.strong_count() > 0);
    let settings = Settings {
        name: Name::from("runtime"),
        site: Location::caller(),
        // A panic in a task without a waiter is logged: there is no caller to rethrow it to.
        policy: Policy::Isolate,
        grace: Duration::from_secs(1),
        release_timeout: RELEASE_TIMEOUT,
        deadline: None,
        keeps_ages: false,
        blocking: Some(BlockingPool::new(BLOCKING_LIMIT)),
        find_cause: None,
        span: TaskSpan::default(),
        has_task_spans: false,
        is_opened_shielded: false,
    };
    let core = Arc::new(Core::new(settings, None, runtime.clone()));
    roots.insert(runtime.id(), Root { core: Arc::downgrade(&core), drains: Arc::default() });
    core
}

/// Returns the root of the runtime, if it has one.
pub(crate) fn existing(runtime: &Handle) -> Option<Arc<Core>> {
    drained(runtime).map(|(root, _)| root)
}

/// The root, and the wakers of its drains.
fn drained(runtime: &Handle) -> Option<(Arc<Core>, Arc<WakerSet>)> {
    let roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let root = roots.get(&runtime.id())?;
    Some((root.core.upgrade()?, Arc::clone(&root.drains)))
}

/// Waits for all tasks of this runtime without an enclosing scope: the children and cleanups of dropped top-level scopes, and
/// detached tasks. Returns how many there were.
///
/// [`run`](crate::run()) calls it at its end. A program with `#[tokio::main]` should call it last: otherwise the runtime drops
/// cleanups that are in progress at their next await.
///
/// # Cancel safety
/// Safe: dropping the future only stops the wait.
///
/// # Panics
/// Outside of a tokio runtime.
#[track_caller]
pub fn drain() -> impl Future<Output = usize> {
    sim::at("runtime", "drain", async move {
        let Some((root, drains)) = drained(&Handle::current()) else { return 0 };
        let mut place = WakerSetEntry::of(&drains);
        let waited_for = root.gate.count(Class::Work);
        let all = place.all();
        poll_fn(|cx| {
            place.set(cx.waker());
            if mutant!("drain.look_away") {
                return Poll::Ready(());
            }
            root.gate.poll_until(&Context::from_waker(&all), || root.gate.count(Class::Work) == 0)
        })
        .await;
        waited_for
    })
}

/// Spawns a task outside of all scopes: it is not cancelled, and only [`drain`] waits for it.
///
/// # When to use
/// Rarely: scopes exist to prevent tasks that outlive their starter.
///
/// # Panics
/// Outside of a tokio runtime.
#[track_caller]
pub fn detach<F>(name: impl Into<Name>, future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let spec = Spec::new(name.into(), Location::caller(), Class::Work, Stop::Never);
    start(spec, future);
}

/// Spawns a task of the library that lives as long as the runtime. No scope waits for it, and no snapshot shows it.
#[track_caller]
pub(crate) fn service<F>(name: &'static str, future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let spec = Spec::new(Name::from(name), Location::caller(), Class::Service, Stop::Never);
    start(spec.hidden(), future);
}

fn start<F>(spec: Spec, future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let started = launch::<_, Plain>(&of(&Handle::current()), spec, future);
    debug_assert!(started.is_ok(), "a root never closes");
}

/// Returns the number of tasks of this runtime that no scope waits for: adopted by the runtime, or detached.
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn unscoped() -> usize {
    existing(&Handle::current()).map_or(0, |root| root.gate.count(Class::Work))
}
