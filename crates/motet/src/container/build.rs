//! The build of one component: it waits for the dependencies, calls the factory, and then `on_start`.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::coop::{consume_budget, has_budget_remaining};
use tokio::time::Instant;

use super::ComponentBuildError;
use super::error::BuildFailureCause;
use super::error::LifecyclePhase;
use super::factory::{BoxError, Maker, Making};
use super::graph::{Needed, Node, Target};
use super::inject::{Arg, Args};
use super::key::Value;
use super::provider::Lifetime;
use super::settled::SettledBuild;
use super::start_report::Started;
use super::stop::stop_instances;
use super::store::{Asked, BuildOutcome, BuiltComponent, ComponentSlot, Store};
use crate::mutant;
use crate::sync::{catch, panic_words, quietly_drop};
use crate::task::ambient::Inside;
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

/// The attempt to build a component. It settles the slot, however it ends.
pub(crate) struct BuildAttempt {
    store: Arc<Store>,
    node: usize,
    /// The waiters for a transient, which has no slot.
    transient: Option<Arc<SettledBuild>>,
    is_settled: bool,
}

/// The result of the first poll of a plain component.
pub(crate) enum PlainBuild {
    Settled(BuildOutcome),
    /// The factory was called, and its future waits.
    Begun(Begun),
    /// The factory was not called: a dependency is not ready.
    WaitsForOthers,
}

/// A factory that was called and has not returned.
pub(crate) struct Begun {
    making: Making,
    /// The time of the call.
    at: Instant,
}

impl BuildAttempt {
    pub(crate) fn new(store: Arc<Store>, node: usize) -> Self {
        Self { store, node, transient: None, is_settled: false }
    }

    /// Returns the waiters for the outcome.
    pub(crate) fn settled(&mut self) -> Arc<SettledBuild> {
        let mut state = self.store.state();
        let slot = self.store.graph.nodes[self.node].slot.and_then(|slot| state.slots.get_mut(slot));
        let built = match slot {
            Some(ComponentSlot::Building(built)) => built,
            _ => &mut self.transient,
        };
        Arc::clone(built.get_or_insert_default())
    }

    pub(crate) async fn run(mut self, depth: usize, begun: Option<Begun>) {
        // If many builds begin in place, those without coop budget continue in tasks.
        consume_budget().await;
        let store = Arc::clone(&self.store);
        let mut instances = Vec::new();
        let mut ready = None;
        // The phases catch panics of factories and hooks; this one catches a panic of a `bind` cast.
        let made = Caught::new(make(&store, self.node, &mut instances, &mut ready, depth, begun)).await;
        let made = made.unwrap_or_else(|payload| {
            Err(store.failed(
                self.node,
                LifecyclePhase::Factory,
                BuildFailureCause::Panicked(panic_words(payload)),
            ))
        });
        match made {
            Ok(value) => {
                let ready = ready.unwrap_or(store.begun);
                let started = store.started(self.node, ready, ready.elapsed());
                let own = instances.pop().expect("a component that was built is the last of its instances");
                let built = BuiltComponent { node: self.node, transients: instances, own };
                self.settle(Ok(value), Some((built, started)));
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
        if !std::mem::replace(&mut self.is_settled, true) {
            self.store.settle(self.node, self.transient.take(), outcome, built);
        }
    }
}

impl Drop for BuildAttempt {
    fn drop(&mut self) {
        // The task was never polled because its scope has ended, or it was dropped with the runtime.
        if !self.is_settled {
            let closed = self.store.failed(self.node, LifecyclePhase::Factory, BuildFailureCause::Closed);
            self.settle(Err(closed), None);
        }
    }
}

impl Store {
    /// Builds a [plain](super::graph::Node::is_plain) component without a task: gets its dependencies, calls the factory, and
    /// polls its future once. Most components are ready then, for the cost of that future and the component itself.
    ///
    /// The build is counted, and the scope cannot close before the end of the stop, which waits for all builds.
    pub(crate) fn build_plain(self: &Arc<Self>, node: usize, depth: usize, clock: &BuildClock) -> PlainBuild {
        if !has_budget_remaining() {
            return PlainBuild::WaitsForOthers;
        }
        let described = &self.graph.nodes[node];
        let failed = |cause| {
            let failed = self.failed(node, LifecyclePhase::Factory, cause);
            self.settle(node, None, Err(failed.clone()), None);
            PlainBuild::Settled(Err(failed))
        };
        // A cast is code of the user.
        let args = match catch_unwind(AssertUnwindSafe(|| self.plain_args(described, depth, clock))) {
            Ok(Some(args)) => args,
            Ok(None) => return PlainBuild::WaitsForOthers,
            Err(payload) => return failed(BuildFailureCause::Panicked(panic_words(payload))),
        };
        let at = clock.now();
        let inside = Inside::enter(&self.host);
        let mut making = match catch_unwind(AssertUnwindSafe(|| described.maker.call(args, self.starts))) {
            Ok(Some(making)) => making,
            Ok(None) => return failed(BuildFailureCause::FactoryUsed),
            Err(payload) => return failed(BuildFailureCause::Panicked(panic_words(payload))),
        };
        let mut cx = Context::from_waker(Waker::noop());
        let made = match catch_unwind(AssertUnwindSafe(|| making.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => {
                self.in_place.note(clock.read().duration_since(at));
                return PlainBuild::Begun(Begun { making, at });
            }
            Ok(Poll::Ready(made)) => Ok(made),
            Err(payload) => Err(payload),
        };
        let dropped = catch(|| drop(making));
        drop(inside);
        let took = clock.read().duration_since(at);
        self.in_place.note(took);
        match (made, dropped) {
            (made, Err(panic)) => {
                quietly_drop(made);
                failed(BuildFailureCause::Panicked(panic))
            }
            (Err(payload), Ok(())) => failed(BuildFailureCause::Panicked(panic_words(payload))),
            (Ok(Err(error)), Ok(())) => failed(BuildFailureCause::Returned(error)),
            (Ok(Ok(value)), Ok(())) => {
                let own = Instance { node, open: None, value: Some(value.clone()) };
                let built = BuiltComponent { node, transients: Vec::new(), own };
                let started = self.started(node, at, took);
                self.settle(node, None, Ok(value.clone()), Some((built, started)));
                PlainBuild::Settled(Ok(value))
            }
        }
    }

    /// Returns the arguments of a plain component, or `None` if a dependency is not ready.
    fn plain_args(self: &Arc<Self>, described: &Node, depth: usize, clock: &BuildClock) -> Option<Args> {
        let mut args = Vec::with_capacity(described.args.len());
        for need in &described.args {
            args.push(match need {
                Needed::Absent | Needed::Scope => Arg::Absent,
                Needed::Node { target, .. } => match self.ask(target.node, depth, clock) {
                    Ok(Asked::Ready(value)) => target.given(value),
                    // Asked again by `gather_args`, which waits, or returns the error.
                    Ok(Asked::Wait(_)) | Err(_) => return None,
                },
            });
        }
        Some(Args(args.into_iter()))
    }

    fn started(&self, node: usize, ready: Instant, took: Duration) -> Started {
        let described = &self.graph.nodes[node];
        let waited = ready.duration_since(self.begun);
        Started { name: described.name.clone(), site: described.site, waited, took, node }
    }

    /// Ends an attempt: stores its outcome, and wakes the callers that wait for it. `transient` has these callers if the
    /// component has no slot.
    fn settle(
        &self,
        node: usize,
        transient: Option<Arc<SettledBuild>>,
        outcome: BuildOutcome,
        built: Option<(BuiltComponent, Started)>,
    ) {
        let slot = self.graph.nodes[node].slot;
        let mut keeps_error = self.parent.is_none();
        if mutant!("container.keep_failed_slot") {
            keeps_error = true;
        }
        let mut state = self.state();
        state.building -= 1;
        if let Some((built, started)) = built {
            state.built.push(built);
            // The components of a `Scoped` do not belong to the start.
            if self.parent.is_none() {
                state.started.push(started);
            }
        }
        if let Err(failed) = &outcome
            && self.parent.is_none()
            && !state.failures.iter().any(|known| Arc::ptr_eq(&known.0, &failed.0))
        {
            state.failures.push(failed.clone());
        }
        let is_watched = state.watchers > 0;
        let (waiters, outcome) = match (slot.and_then(|slot| state.slots.get_mut(slot)), outcome) {
            (None, outcome) => (transient, Some(outcome)),
            (Some(slot), Ok(value)) => match std::mem::replace(slot, ComponentSlot::Ready(value)) {
                ComponentSlot::Building(Some(waiters)) => match slot {
                    ComponentSlot::Ready(value) => (Some(waiters), Some(Ok(value.clone()))),
                    ComponentSlot::Building(_) | ComponentSlot::Empty => unreachable!("it was replaced"),
                },
                ComponentSlot::Building(None) | ComponentSlot::Ready(_) | ComponentSlot::Empty => {
                    (None, None)
                }
            },
            // The factory of a singleton can be called only once, so the slot keeps the error for later callers.
            (Some(ComponentSlot::Building(waiters)), Err(failed)) if keeps_error => {
                (Some(Arc::clone(waiters.get_or_insert_default())), Some(Err(failed)))
            }
            (Some(slot), Err(failed)) => match std::mem::take(slot) {
                ComponentSlot::Building(waiters) => (waiters, Some(Err(failed))),
                ComponentSlot::Ready(_) | ComponentSlot::Empty => (None, Some(Err(failed))),
            },
        };
        drop(state);
        if let (Some(waiters), Some(outcome)) = (waiters, outcome) {
            waiters.settle(outcome);
        }
        if is_watched {
            self.changed.notify_waiters();
        }
    }
}

/// The time of a poll in which components are built one after the other: the end of one is the beginning of the next.
#[derive(Default)]
pub(crate) struct BuildClock(Cell<Option<Instant>>);

impl BuildClock {
    /// The time that was read last in this poll.
    fn now(&self) -> Instant {
        self.0.get().unwrap_or_else(|| self.read())
    }

    fn read(&self) -> Instant {
        let now = Instant::now();
        self.0.set(Some(now));
        now
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
    begun: Option<Begun>,
) -> BuildOutcome {
    let described = &store.graph.nodes[node];
    let (mut args, making, now) = match begun {
        Some(Begun { making, at }) => (Vec::new(), Some(making), at),
        None => (gather_args(store, node, instances, depth).await?, None, Instant::now()),
    };
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
        match making.or_else(|| described.maker.call(args, store.starts)) {
            Some(making) => making.await.map(Some),
            None => Ok(None),
        }
    };
    let made = run(store, core.as_ref(), node, LifecyclePhase::Factory, deadline, factory).await?;
    let Some(value) = made else {
        let cause = match described.maker {
            Maker::Input => BuildFailureCause::NoInput,
            Maker::Once(_) | Maker::Each(_) | Maker::Value(_) => BuildFailureCause::FactoryUsed,
        };
        return Err(store.failed(node, LifecyclePhase::Factory, cause));
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
    Box::pin(async move { make(store, node, instances, &mut None, depth, None).await })
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
    let clock = BuildClock::default();
    // All dependencies are requested before the first one is awaited, so that they are built concurrently.
    let mut later = Vec::new();
    for (at, need) in described.args.iter().enumerate() {
        let asked = match need {
            Needed::Scope | Needed::Absent => None,
            Needed::Node { target, .. } if store.graph.nodes[target.node].lifetime == Lifetime::Transient => {
                later.push((at, target, None));
                None
            }
            Needed::Node { target, .. } => match store.ask(target.node, depth, &clock)? {
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
