//! The components that there are: one store for the singletons, one for each [`Scoped`](super::Scoped).
//!
//! A slot is empty, being built or filled. Whoever finds it empty starts a task that builds; everybody waits for that.
//! The task belongs to the store's scope and nobody cancels it but the store, so no caller that is dropped takes
//! anything along; what it built is in the list of what has to be stopped before anyone can see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::build::{Attempt, Instance};
use super::error::{Cause, Failed};
use super::graph::Graph;
use super::in_place::InPlace;
use super::settled::{Settled, until};
use super::{BuildFailed, Lifetime, Phase, StartReport, Started, StopReport, Stopped, Value};
use crate::observe::Registration;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::core::Core;
use crate::task::gate::Class;
use crate::task::member::Member;
use crate::task::notify::Notify;
use crate::task::{CancelToken, Either, Reason, race};

pub(crate) type Outcome = Result<Value, BuildFailed>;

pub(crate) struct Store {
    pub(crate) graph: Arc<Graph>,
    /// The scope that its tasks, and what it holds, belong to.
    pub(crate) host: Arc<Core>,
    /// The singletons, for a scoped one.
    pub(crate) parent: Option<Arc<Self>>,
    /// Gives up what is being built.
    pub(crate) cancel: CancelToken,
    pub(crate) begun: Instant,
    pub(crate) in_place: InPlace,
    pub(crate) state: Mutex<State>,
    /// Notified whenever a build or the stop ends: who waits for one looks at the state again.
    pub(crate) changed: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) slots: Vec<Slot>,
    /// What has to be stopped, in the order in which it was ready.
    pub(crate) built: Vec<Built>,
    pub(crate) building: usize,
    /// What failed to build, in order; of a start.
    pub(crate) failures: Vec<BuildFailed>,
    pub(crate) started: Vec<Started>,
    /// Stopped before their time: parts of what failed.
    pub(crate) stopped: Vec<Stopped>,
    pub(crate) phase: Life,
    pub(crate) scoped: Vec<Weak<Store>>,
    pub(crate) report: Option<StopReport>,
    pub(crate) registration: Option<Registration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Life {
    #[default]
    Open,
    Closing,
    Closed,
}

#[derive(Default)]
pub(crate) enum Slot {
    #[default]
    Empty,
    Building(Arc<Settled>),
    Ready(Value),
}

/// A component with the transients that were made for it, which come before it.
pub(crate) struct Built {
    pub(crate) node: usize,
    pub(crate) instances: Vec<Instance>,
}

/// A chain of components that is longer than this goes on in a task: each is on the stack of the one that needs it.
const DEEP: usize = 8;

/// What comes of asking for a component.
pub(crate) enum Asked {
    Ready(Value),
    Wait(Arc<Settled>),
}

impl Store {
    pub(crate) fn new(graph: Arc<Graph>, host: Arc<Core>, parent: Option<Arc<Self>>) -> Arc<Self> {
        let slots = if parent.is_some() { graph.scoped } else { graph.singletons };
        let state = State { slots: (0..slots).map(|_| Slot::Empty).collect(), ..State::default() };
        Arc::new(Self {
            graph,
            host,
            parent,
            cancel: CancelToken::new(),
            begun: Instant::now(),
            in_place: InPlace::default(),
            state: Mutex::new(state),
            changed: Notify::default(),
        })
    }

    /// No code of a user runs under this lock, drops included, so a poisoned one holds a sound state.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the stop has begun, and whether it has ended.
    pub(crate) fn life(&self) -> Life {
        self.state().phase
    }

    /// The store that a component belongs to.
    pub(crate) fn owner(self: &Arc<Self>, node: usize) -> &Arc<Self> {
        match (&self.parent, self.graph.nodes[node].lifetime) {
            (Some(parent), Lifetime::Singleton) => parent,
            _ => self,
        }
    }

    /// Asks for a component; has it built if nobody did so far, or if it is a transient. `depth` is how many builds this
    /// is part of, as far as they are under way in place.
    pub(crate) fn ask(self: &Arc<Self>, node: usize, depth: usize) -> Result<Asked, BuildFailed> {
        let owner = self.owner(node);
        let slot = owner.graph.nodes[node].slot;
        let built = {
            let mut state = owner.state();
            match slot.map(|slot| &state.slots[slot]) {
                Some(Slot::Ready(value)) => return Ok(Asked::Ready(value.clone())),
                Some(Slot::Building(built)) => return Ok(Asked::Wait(Arc::clone(built))),
                Some(Slot::Empty) | None => {}
            }
            if state.phase != Life::Open {
                drop(state);
                return Err(owner.failed(node, Phase::Factory, Cause::Closed));
            }
            let built = Arc::<Settled>::default();
            if let Some(slot) = slot {
                state.slots[slot] = Slot::Building(Arc::clone(&built));
            }
            state.building += 1;
            built
        };
        let mut attempt = Box::pin(Attempt::new(Arc::clone(owner), node, Arc::clone(&built)).run(depth + 1));
        // The scope stays open meanwhile; one that has ended refuses the task below as well.
        if depth < DEEP
            && let Some(_member) = Member::enter(&owner.host, Class::Work)
        {
            match owner.in_place.begin(&owner.host, attempt) {
                Ok(()) => return built.now().map(Asked::Ready),
                Err(waits) => attempt = waits,
            }
        }
        let described = &owner.graph.nodes[node];
        let spec = Spec::new(described.name.clone(), described.site, Class::Work, Stop::Never);
        // Refused by a scope that has ended: dropping the attempt settles it.
        drop(launch::<_, Plain>(&owner.host, spec, attempt));
        Ok(Asked::Wait(built))
    }

    /// Waits for a component that another needs.
    pub(crate) async fn built(self: &Arc<Self>, needed: usize, by: usize, built: &Settled) -> Outcome {
        if Arc::ptr_eq(self.owner(needed), self) {
            // It is given up when this store is.
            return built.wait().await;
        }
        // The container builds it, for whoever asks: a scope that ends does not wait for that.
        match race(built.wait(), self.given_up()).await {
            Either::Left(outcome) => outcome,
            Either::Right(reason) => Err(self.failed(by, Phase::Factory, Cause::Cancelled(reason))),
        }
    }

    /// Puts what a scope is opened with into its slot; gives it back if one is there.
    pub(crate) fn fill<T: Send + Sync + 'static>(&self, slot: usize, value: T) -> Result<(), T> {
        let mut state = self.state();
        match (&state.slots[slot], state.phase) {
            (Slot::Empty, Life::Open) => {
                state.slots[slot] = Slot::Ready(Value::new(Arc::new(value)));
                Ok(())
            }
            _ => Err(value),
        }
    }

    pub(crate) fn failed(&self, node: usize, phase: Phase, cause: Cause) -> BuildFailed {
        let described = &self.graph.nodes[node];
        BuildFailed(Arc::new(Failed {
            name: described.name.clone(),
            site: described.site,
            path: self.graph.path(node),
            phase,
            cause,
        }))
    }

    /// Waits until the state is as asked.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        until(&self.changed, || look(&mut self.state())).await
    }

    pub(crate) fn start_report(&self) -> StartReport {
        // Nobody else asks for it.
        let components = std::mem::take(&mut self.state().started);
        StartReport {
            components,
            took: self.begun.elapsed(),
            needs: Arc::clone(&self.graph.beyond_transients),
        }
    }

    /// How long stopping everything may take at most.
    pub(crate) fn stop_limit(&self) -> Duration {
        let all = self.graph.stop_limits();
        // A component that is being built when the stop begins cleans up first, within its own limit.
        all.fold(Duration::ZERO, Duration::saturating_add).saturating_mul(2)
    }

    /// Waits until what is being built is to be given up: the store is stopped, or its scope cancelled.
    pub(crate) async fn given_up(&self) -> Reason {
        race(self.cancel.cancelled(), self.host.token().cancelled()).await.into_inner().clone()
    }
}
