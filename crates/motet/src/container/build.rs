//! The build of one component: it waits for the dependencies, calls the factory, and then `on_start`.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::time::Instant;

use super::ComponentBuildError;
use super::error::BuildFailureCause;
use super::error::LifecyclePhase;
use super::factory::BoxError;
use super::graph::{Needed, Target};
use super::inject::{Arg, Args};
use super::key::Value;
use super::provider::Lifetime;
use super::settled::SettledBuild;
use super::start_report::Started;
use super::stop::stop_instances;
use super::store::{Asked, BuildOutcome, BuiltComponent, ComponentSlot, Store};
use crate::mutant;
use crate::sync::panic_words;
use crate::task::body::{Body, Ended};
use crate::task::caught::Caught;
use crate::task::core::{Core, Level};
use crate::task::options::Open;
use crate::task::timeout::poll_limit;
use crate::task::{Reason, ReasonKind, Scope, timeout_at};

/// A component that was built or is being built: its scope, and its value once there is one.
pub(crate) struct Instance {
    pub(crate) node: usize,
    /// The scope of its tasks and deferred cleanups; `Some` if the factory takes a scope.
    pub(crate) open: Option<Open>,
    /// `Some` once the factory has returned it.
    pub(crate) value: Option<Value>,
}

/// The task that builds a component for a slot. It settles the slot, however the task ends.
pub(crate) struct BuildAttempt {
    store: Arc<Store>,
    node: usize,
    /// `None` once the slot is settled.
    settle: Option<Arc<SettledBuild>>,
}

impl BuildAttempt {
    pub(crate) fn new(store: Arc<Store>, node: usize, settle: Arc<SettledBuild>) -> Self {
        Self { store, node, settle: Some(settle) }
    }

    pub(crate) async fn run(mut self, depth: usize) {
        // If many builds begin in place, those without coop budget continue in tasks.
        consume_budget().await;
        let store = Arc::clone(&self.store);
        let mut instances = Vec::new();
        let mut ready = None;
        // The phases catch panics of factories and hooks; this one catches a panic of a `bind` cast.
        let made = Caught::new(make(&store, self.node, &mut instances, &mut ready, depth)).await;
        let made = made.unwrap_or_else(|payload| {
            Err(store.failed(
                self.node,
                LifecyclePhase::Factory,
                BuildFailureCause::Panicked(panic_words(payload)),
            ))
        });
        match made {
            Ok(value) => {
                let described = &store.graph.nodes[self.node];
                let ready = ready.unwrap_or(store.begun);
                let started = Started {
                    name: described.name.clone(),
                    site: described.site,
                    waited: ready.duration_since(store.begun),
                    took: ready.elapsed(),
                    node: self.node,
                };
                self.settle(Ok(value), Some((BuiltComponent { node: self.node, instances }, started)));
            }
            Err(failed) => {
                if mutant!("container.no_rollback_on_timeout") {
                    instances.retain(|_| !failed.is_timeout());
                }
                let stopped = stop_instances(&store, instances).await;
                // The failed build of a `Scoped` may be repeated any number of times, so its stops are not collected;
                // their failures were logged.
                if store.parent.is_none() {
                    store.state().stopped.extend(stopped);
                }
                self.settle(Err(failed), None);
            }
        }
    }

    fn settle(&mut self, outcome: BuildOutcome, built: Option<(BuiltComponent, Started)>) {
        let Some(settle) = self.settle.take() else { return };
        let slot = self.store.graph.nodes[self.node].slot;
        let mut keeps_error = self.store.parent.is_none();
        if mutant!("container.keep_failed_slot") {
            keeps_error = true;
        }
        let mut state = self.store.state();
        state.building -= 1;
        let before = match (slot, &outcome) {
            (None, _) => None,
            (Some(slot), Ok(value)) => {
                Some(std::mem::replace(&mut state.slots[slot], ComponentSlot::Ready(value.clone())))
            }
            // The factory of a singleton can be called only once, so the slot keeps the error for later callers.
            (Some(_), Err(_)) if keeps_error => None,
            (Some(slot), Err(_)) => Some(std::mem::take(&mut state.slots[slot])),
        };
        if let Some((built, started)) = built {
            state.built.push(built);
            // The components of a `Scoped` do not belong to the start.
            if self.store.parent.is_none() {
                state.started.push(started);
            }
        }
        if let Err(failed) = &outcome
            && self.store.parent.is_none()
            && !state.failures.iter().any(|known| Arc::ptr_eq(&known.0, &failed.0))
        {
            state.failures.push(failed.clone());
        }
        drop(state);
        drop(before);
        settle.settle(outcome);
        self.store.changed.notify_waiters();
    }
}

impl Drop for BuildAttempt {
    fn drop(&mut self) {
        // The task was never polled because its scope has ended, or it was dropped with the runtime.
        if self.settle.is_some() {
            let closed = self.store.failed(self.node, LifecyclePhase::Factory, BuildFailureCause::Closed);
            self.settle(Err(closed), None);
        }
    }
}

/// Builds a component: first the transients that it needs, then the component itself. All are pushed to `instances`,
/// the component last. Sets `ready` to the time at which all dependencies were available.
async fn make(
    store: &Arc<Store>,
    node: usize,
    instances: &mut Vec<Instance>,
    ready: &mut Option<Instant>,
    depth: usize,
) -> BuildOutcome {
    let described = &store.graph.nodes[node];
    let mut args = gather_args(store, node, instances, depth).await?;
    let now = Instant::now();
    *ready = Some(now);
    let deadline = now.checked_add(described.limits.start);
    let open = described.asks_for_scope().then(|| {
        let options = Scope::builder().name(described.name.clone()).policy(described.policy);
        options.release_timeout(described.limits.stop).open(described.site)
    });
    let core = open.as_ref().map(|open| Arc::clone(open.core()));
    if let Some(core) = &core {
        for (arg, _) in args.iter_mut().zip(&described.args).filter(|(_, need)| matches!(need, Needed::Scope))
        {
            *arg = Arg::Scope(Scope(Arc::clone(core)));
        }
    }
    let at = instances.len();
    instances.push(Instance { node, open, value: None });

    let args = Args(args.into_iter());
    let factory = async {
        match described.maker.call(args) {
            Some(making) => making.await.map(Some),
            None => Ok(None),
        }
    };
    let made = run(store, core.as_ref(), node, LifecyclePhase::Factory, deadline, factory).await?;
    let Some(value) = made else {
        // An input has no factory.
        return Err(store.failed(node, LifecyclePhase::Factory, BuildFailureCause::NoInput));
    };
    instances[at].value = Some(value.clone());
    if let Some(on_start) = &described.on_start {
        let starting = async { on_start(value.clone()).await };
        run(store, core.as_ref(), node, LifecyclePhase::OnStart, deadline, starting).await?;
    }
    Ok(value)
}

/// Builds a transient for another component.
fn make_transient<'a>(
    store: &'a Arc<Store>,
    node: usize,
    instances: &'a mut Vec<Instance>,
    depth: usize,
) -> Pin<Box<dyn Future<Output = BuildOutcome> + Send + 'a>> {
    Box::pin(async move { make(store, node, instances, &mut None, depth).await })
}

/// Collects the arguments, except for the scope of the component, which is opened when all dependencies are available.
async fn gather_args(
    store: &Arc<Store>,
    node: usize,
    instances: &mut Vec<Instance>,
    depth: usize,
) -> Result<Vec<Arg>, ComponentBuildError> {
    let described = &store.graph.nodes[node];
    let mut args = Vec::with_capacity(described.args.len());
    // All dependencies are requested before the first one is awaited, so that they are built concurrently.
    let mut later = Vec::new();
    for (at, need) in described.args.iter().enumerate() {
        let asked = match need {
            Needed::Scope | Needed::Absent => None,
            Needed::Node { target, .. } if store.graph.nodes[target.node].lifetime == Lifetime::Transient => {
                later.push((at, target, None));
                None
            }
            Needed::Node { target, .. } => match store.ask(target.node, depth)? {
                Asked::Ready(value) => Some(target.given(value)),
                Asked::Wait(built) => {
                    later.push((at, target, Some(built)));
                    None
                }
            },
        };
        args.push(asked.unwrap_or(Arg::Absent));
    }
    for (at, target, built) in later {
        let value = match built {
            Some(built) => store.built(target.node, node, &built).await?,
            None => make_transient(store, target.node, instances, depth).await?,
        };
        args[at] = target.given(value);
    }
    Ok(args)
}

impl Target {
    fn given(&self, value: Value) -> Arg {
        Arg::Value(match &self.cast {
            Some(cast) => cast(&value),
            None => value,
        })
    }
}

/// Runs a phase until it ends, times out or is cancelled, in the component's scope if it has one.
async fn run<T>(
    store: &Store,
    core: Option<&Arc<Core>>,
    node: usize,
    phase: LifecyclePhase,
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, ComponentBuildError> {
    let ended = match core {
        Some(core) => in_scope(core, store, deadline, future).await,
        None => alone(store, deadline, future).await,
    };
    let cause = match ended {
        Phased::Ended(Ok(value)) => return Ok(value),
        Phased::Ended(Err(error)) => BuildFailureCause::Returned(error),
        Phased::Panicked(payload) => BuildFailureCause::Panicked(panic_words(payload)),
        Phased::Stopped(late) if late.kind() == ReasonKind::Deadline => {
            BuildFailureCause::TimedOut(store.graph.nodes[node].limits.start)
        }
        Phased::Stopped(reason) => BuildFailureCause::Cancelled(reason),
    };
    Err(store.failed(node, phase, cause))
}

/// How a phase ended.
enum Phased<T> {
    Ended(Result<T, BoxError>),
    Panicked(Box<dyn Any + Send>),
    /// The phase timed out or was cancelled; or a task that it started panicked; or it cancelled its own scope.
    Stopped(Reason),
}

async fn in_scope<T>(
    core: &Arc<Core>,
    store: &Store,
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, BoxError>>,
) -> Phased<T> {
    let mut body = pin!(Body::new(future, core));
    let mut limits = pin!(limits(store, deadline));
    let ended = poll_fn(|cx| {
        loop {
            let had_budget = has_budget_remaining();
            if let Poll::Ready(ended) = body.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            // The raised cancellation takes effect when the body is polled again, which the loop does at once.
            match poll_limit(limits.as_mut(), had_budget, cx) {
                Poll::Ready(reason) => core.raise(Level::Work, &reason),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    match ended.await {
        Ended::Returned(returned) => Phased::Ended(returned),
        Ended::Panicked(payload) => Phased::Panicked(payload),
        Ended::Stopped => Phased::Stopped(core.reason().unwrap_or_else(|| Reason::of(ReasonKind::Ended))),
    }
}

/// Runs a phase of a component that takes no scope, and so has no tasks that could outlive the phase.
async fn alone<T>(
    store: &Store,
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, BoxError>>,
) -> Phased<T> {
    let mut body = pin!(Some(Caught::new(future)));
    let mut limits = pin!(limits(store, deadline));
    poll_fn(|cx| {
        let had_budget = has_budget_remaining();
        let Some(running) = body.as_mut().as_pin_mut() else {
            unreachable!("a phase is not polled after it has ended")
        };
        let ended = match running.poll(cx) {
            Poll::Ready(Ok(returned)) => Phased::Ended(returned),
            Poll::Ready(Err(payload)) => Phased::Panicked(payload),
            Poll::Pending => match poll_limit(limits.as_mut(), had_budget, cx) {
                Poll::Ready(reason) => Phased::Stopped(reason),
                Poll::Pending => return Poll::Pending,
            },
        };
        // Dropped here, where a panic of the drop is caught, too.
        match catch_unwind(AssertUnwindSafe(|| body.set(None))) {
            Ok(()) => Poll::Ready(ended),
            Err(payload) => Poll::Ready(Phased::Panicked(payload)),
        }
    })
    .await
}

/// Waits until the phase has to end: it times out, or the build is cancelled. Polled when the phase first waits, and no
/// timer is armed before that.
async fn limits(store: &Store, deadline: Option<Instant>) -> Reason {
    let given_up = store.given_up();
    match deadline {
        Some(deadline) => {
            timeout_at(deadline, given_up).await.unwrap_or_else(|_| Reason::of(ReasonKind::Deadline))
        }
        None => given_up.await,
    }
}
