//! The stores of built components: one for the singletons, and one for each [`Scoped`](super::Scoped).
//!
//! A slot is empty, being built, or filled. A caller that finds it empty starts the task that builds the component, and
//! all callers wait for that task. The task belongs to the store's scope, and only the store cancels it, so a caller
//! that is dropped does not stop a build. A built component is in the list of components to stop before any caller can
//! see it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::build::{BuildAttempt, BuildClock, Instance, PlainBuild};
use super::error::{BuildFailure, BuildFailureCause, LifecyclePhase};
use super::factory::Starts;
use super::graph::Graph;
use super::in_place::InPlace;
use super::key::Value;
use super::provider::Lifetime;
use super::settled::{SettledBuild, until};
use super::start_report::Started;
use super::{ComponentBuildError, StartReport, StopReport, Stopped};
use crate::observe::Registration;
use crate::sync::{Class, Notify};
use crate::task::ambient::shielded;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::core::Core;
use crate::task::member::Member;
use crate::task::{CancelToken, Either, Reason, race};

pub(crate) type BuildOutcome = Result<Value, ComponentBuildError>;

pub(crate) struct Store {
    pub(crate) graph: Arc<Graph>,
    pub(crate) starts: Starts,
    /// The scope of its tasks and components.
    pub(crate) host: Arc<Core>,
    /// The store of the singletons; `Some` in the store of a `Scoped`.
    pub(crate) parent: Option<Arc<Self>>,
    /// Cancels the builds in progress; created by the first build that waits.
    cancel: OnceLock<CancelToken>,
    pub(crate) begun: Instant,
    pub(crate) in_place: InPlace,
    pub(crate) state: Mutex<StoreState>,
    /// Notified whenever a build or the stop ends, so that waiters check the state again.
    pub(crate) changed: Notify,
}

#[derive(Default)]
pub(crate) struct StoreState {
    pub(crate) slots: Vec<ComponentSlot>,
    /// The components to stop, in the order in which they were ready.
    pub(crate) built: Vec<BuiltComponent>,
    pub(crate) building: usize,
    /// The number of callers of [`Store::until`] that wait.
    pub(crate) watchers: usize,
    /// The failures of a start, in order.
    pub(crate) failures: Vec<ComponentBuildError>,
    pub(crate) started: Vec<Started>,
    /// The components that were stopped early, as parts of a build that failed.
    pub(crate) stopped: Vec<Stopped>,
    pub(crate) phase: StoreLife,
    pub(crate) scoped: Vec<Weak<Store>>,
    pub(crate) report: Option<StopReport>,
    pub(crate) registration: Option<Registration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum StoreLife {
    #[default]
    Open,
    Closing,
    Closed,
}

#[derive(Default)]
pub(crate) enum ComponentSlot {
    #[default]
    Empty,
    /// `Some` once a caller waits for the build, or has received its error.
    Building(Option<Arc<SettledBuild>>),
    Ready(Value),
}

/// A component with the transients that were built for it, which come before it.
pub(crate) struct BuiltComponent {
    pub(crate) node: usize,
    pub(crate) transients: Vec<Instance>,
    pub(crate) own: Instance,
}

impl BuiltComponent {
    /// The instances, in the order in which they were built.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.transients.iter().chain([&self.own])
    }
}

struct Watches<'a>(&'a Store);

impl Drop for Watches<'_> {
    fn drop(&mut self) {
        self.0.state().watchers -= 1;
    }
}

/// The longest chain of components that are built on one stack; a longer chain continues in a task.
const DEEP: usize = 8;

/// The result of a request for a component.
pub(crate) enum Asked {
    Ready(Value),
    Wait(Arc<SettledBuild>),
}

impl Store {
    pub(crate) fn new(
        graph: Arc<Graph>,
        starts: Starts,
        host: Arc<Core>,
        parent: Option<Arc<Self>>,
    ) -> Arc<Self> {
        let slots = if parent.is_some() { graph.scoped } else { graph.singletons };
        let state = StoreState {
            slots: (0..slots).map(|_| ComponentSlot::Empty).collect(),
            built: Vec::with_capacity(slots),
            // A `Scoped` has no report of its start.
            started: Vec::with_capacity(if parent.is_some() { 0 } else { slots }),
            ..StoreState::default()
        };
        Arc::new(Self {
            graph,
            starts,
            host,
            parent,
            cancel: OnceLock::new(),
            begun: Instant::now(),
            in_place: InPlace::default(),
            state: Mutex::new(state),
            changed: Notify::default(),
        })
    }

    /// No code of the user runs under this lock, drops included, so the state of a poisoned lock is consistent.
    pub(crate) fn state(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of the stop: not begun, begun or ended.
    pub(crate) fn life(&self) -> StoreLife {
        self.state().phase
    }

    /// The store that a component belongs to.
    pub(crate) fn owner(self: &Arc<Self>, node: usize) -> &Arc<Self> {
        match (&self.parent, self.graph.nodes[node].lifetime) {
            (Some(parent), Lifetime::Singleton) => parent,
            _ => self,
        }
    }

    /// Requests a component, and starts its build if there is none yet or if it is a transient. `depth` is the number
    /// of builds in place that this request is part of.
    pub(crate) fn ask(
        self: &Arc<Self>,
        node: usize,
        depth: usize,
        clock: &BuildClock,
    ) -> Result<Asked, ComponentBuildError> {
        let owner = self.owner(node);
        let described = &owner.graph.nodes[node];
        {
            let mut state = owner.state();
            match described.slot.and_then(|slot| state.slots.get_mut(slot)) {
                Some(ComponentSlot::Ready(value)) => return Ok(Asked::Ready(value.clone())),
                Some(ComponentSlot::Building(built)) => {
                    return Ok(Asked::Wait(Arc::clone(built.get_or_insert_default())));
                }
                Some(ComponentSlot::Empty) | None => {}
            }
            if state.phase != StoreLife::Open {
                drop(state);
                return Err(owner.failed(node, LifecyclePhase::Factory, BuildFailureCause::Closed));
            }
            if let Some(slot) = described.slot {
                state.slots[slot] = ComponentSlot::Building(None);
            }
            state.building += 1;
        }
        let mut begun = None;
        if depth < DEEP && described.is_plain && owner.in_place.may_begin() {
            match owner.build_plain(node, depth + 1, clock) {
                PlainBuild::Settled(outcome) => return outcome.map(Asked::Ready),
                PlainBuild::Begun(waits) => begun = Some(waits),
                PlainBuild::WaitsForOthers => {}
            }
        }
        let mut attempt = BuildAttempt::new(Arc::clone(owner), node);
        let built = attempt.settled();
        let has_waited = begun.is_some();
        let mut building = Box::pin(attempt.run(depth + 1, begun));
        // The member keeps the scope open; a scope that has ended also refuses the task below.
        if depth < DEEP
            && !has_waited
            && let Some(_member) = Member::enter(&owner.host, Class::Work)
        {
            match owner.in_place.begin(&owner.host, building) {
                Ok(()) => return built.now().map(Asked::Ready),
                Err(waits) => building = waits,
            }
        }
        let spec = Spec::new(described.name.clone(), described.site, Class::Work, Stop::Never);
        // If the scope has ended, it refuses the task: dropping the attempt settles it.
        drop(launch::<_, Plain>(&owner.host, spec, shielded(building)));
        Ok(Asked::Wait(built))
    }

    /// Waits for a component that another component needs.
    pub(crate) async fn built(
        self: &Arc<Self>,
        needed: usize,
        by: usize,
        built: &SettledBuild,
    ) -> BuildOutcome {
        if Arc::ptr_eq(self.owner(needed), self) {
            // The build is cancelled together with this store.
            return built.wait().await;
        }
        // The container builds the singleton for all callers: a scope that ends does not wait for that build.
        match race(built.wait(), self.given_up()).await {
            Either::Left(outcome) => outcome,
            Either::Right(reason) => {
                Err(self.failed(by, LifecyclePhase::Factory, BuildFailureCause::Cancelled(reason)))
            }
        }
    }

    /// Stores an input in its slot. Returns the value if the slot is in use, or if the components are being stopped.
    pub(crate) fn fill<T: Send + Sync + 'static>(&self, slot: usize, value: T) -> Result<(), T> {
        let mut state = self.state();
        match (state.slots.get(slot), state.phase) {
            (Some(ComponentSlot::Empty), StoreLife::Open) => {
                state.slots[slot] = ComponentSlot::Ready(Value::new(Arc::new(value)));
                Ok(())
            }
            _ => Err(value),
        }
    }

    pub(crate) fn failed(
        &self,
        node: usize,
        phase: LifecyclePhase,
        cause: BuildFailureCause,
    ) -> ComponentBuildError {
        let described = &self.graph.nodes[node];
        ComponentBuildError(Arc::new(BuildFailure {
            name: described.name.clone(),
            site: described.site,
            path: self.graph.path(node),
            phase,
            cause,
        }))
    }

    /// Waits until `look` returns a value for the state.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&mut StoreState) -> Option<T>) -> T {
        {
            let mut state = self.state();
            if let Some(found) = look(&mut state) {
                return found;
            }
            state.watchers += 1;
        }
        let _watches = Watches(self);
        until(&self.changed, || look(&mut self.state())).await
    }

    pub(crate) fn start_report(&self) -> StartReport {
        // The report is created only once.
        let components = std::mem::take(&mut self.state().started);
        StartReport {
            components,
            took: self.begun.elapsed(),
            needs: Arc::clone(&self.graph.beyond_transients),
        }
    }

    /// The time limit of the whole stop.
    pub(crate) fn stop_limit(&self) -> Duration {
        // A component that is being built when the stop begins cleans up first, within its own limit.
        self.graph.stop_limit.saturating_mul(2)
    }

    /// Cancels the builds in progress.
    pub(crate) fn cancel(&self, reason: Reason) {
        self.cancel.get_or_init(CancelToken::new).cancel(reason);
    }

    /// Waits until builds have to be cancelled: the store is stopped, or its scope is cancelled.
    pub(crate) async fn given_up(&self) -> Reason {
        race(self.cancel.get_or_init(CancelToken::new).cancelled(), self.host.token().cancelled())
            .await
            .into_inner()
            .clone()
    }
}
