//! Building one component: wait for what it needs, call its factory, then its `on_start`.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, sleep_until};

use super::error::Cause;
use super::factory::BoxError;
use super::graph::Needed;
use super::inject::{Arg, Args};
use super::settled::Settled;
use super::stop::stop_instances;
use super::store::{Asked, Built, Outcome, Slot, Store};
use super::{BuildFailed, Lifetime, Phase, Started, Value};
use crate::mutant;
use crate::task::body::{Body, Ended};
use crate::task::caught::Caught;
use crate::task::core::{Core, Level, panic_words};
use crate::task::options::Open;
use crate::task::timeout::poll_limit;
use crate::task::{Options, Reason, ReasonKind, Scope};

/// Something that was made, or is being made: its scope, and once there is one its value.
pub(crate) struct Instance {
    pub(crate) node: usize,
    /// What its factory starts or defers belongs to it.
    pub(crate) open: Open,
    /// Once the factory has returned it.
    pub(crate) value: Option<Value>,
}

/// The task that builds a component for a slot. It settles the slot however it ends.
pub(crate) struct Attempt {
    store: Arc<Store>,
    node: usize,
    /// `None` once settled.
    settle: Option<Arc<Settled>>,
}

impl Attempt {
    pub(crate) fn new(store: Arc<Store>, node: usize, settle: Arc<Settled>) -> Self {
        Self { store, node, settle: Some(settle) }
    }

    pub(crate) async fn run(mut self) {
        let store = Arc::clone(&self.store);
        let mut instances = Vec::new();
        let mut ready = None;
        // Phases catch their own panics; what is left is a cast of `bind`.
        let made = Caught::new(make(&store, self.node, &mut instances, &mut ready)).await;
        let made = made.unwrap_or_else(|payload| {
            Err(store.failed(self.node, Phase::Factory, Cause::Panicked(panic_words(payload))))
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
                    needs: store.graph.needs_beyond_transients(self.node),
                };
                self.settle(Ok(value), Some((Built { node: self.node, instances }, started)));
            }
            Err(failed) => {
                let skipped = mutant!("container.no_rollback_on_timeout") && failed.is_timeout();
                if !skipped {
                    let stopped = stop_instances(&store, instances).await;
                    // A `Scoped` may fail as often as it is asked; what went wrong has been logged.
                    if store.parent.is_none() {
                        store.state().stopped.extend(stopped);
                    }
                }
                self.settle(Err(failed), None);
            }
        }
    }

    fn settle(&mut self, outcome: Outcome, built: Option<(Built, Started)>) {
        let Some(settle) = self.settle.take() else { return };
        let slot = self.store.graph.nodes[self.node].slot;
        let mut state = self.store.state();
        state.building -= 1;
        let before = match (slot, &outcome) {
            (None, _) => None,
            (Some(slot), Ok(value)) => {
                Some(std::mem::replace(&mut state.slots[slot], Slot::Ready(value.clone())))
            }
            // The factory of a singleton can be called once: who asks for it later gets this same error.
            (Some(_), Err(_)) if self.store.parent.is_none() || mutant!("container.keep_failed_slot") => None,
            (Some(slot), Err(_)) => Some(std::mem::take(&mut state.slots[slot])),
        };
        if let Some((built, started)) = built {
            state.built.push(built);
            // Those of a `Scoped` are of no start.
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

impl Drop for Attempt {
    fn drop(&mut self) {
        // Never run: its scope has ended. Or cut off, with the runtime.
        if self.settle.is_some() {
            let closed = self.store.failed(self.node, Phase::Factory, Cause::Closed);
            self.settle(Err(closed), None);
        }
    }
}

/// Makes a component: first the transients it needs, into `instances`, then itself, as the last of them. `ready`
/// becomes the moment when all that it needs was there.
pub(crate) fn make<'a>(
    store: &'a Arc<Store>,
    node: usize,
    instances: &'a mut Vec<Instance>,
    ready: &'a mut Option<Instant>,
) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
    Box::pin(async move {
        let described = &store.graph.nodes[node];
        let given = gather_args(store, node, instances).await?;
        let now = Instant::now();
        *ready = Some(now);
        let deadline = now.checked_add(described.limits.start);
        let options = Options::new().name(described.name.clone()).policy(described.policy);
        let options = options.release_timeout(described.limits.stop);
        let open = options.open(described.site);
        let core = Arc::clone(open.core());
        let at = instances.len();
        instances.push(Instance { node, open, value: None });

        let args = given.into_iter().map(|given| match given {
            Given::Arg(arg) => arg,
            Given::Scope => Arg::Scope(Scope(Arc::clone(&core))),
        });
        let args = Args(args.collect::<Vec<_>>().into_iter());
        let factory = async {
            match described.maker.call(args) {
                Some(making) => making.await.map(Some),
                None => Ok(None),
            }
        };
        let made = run(store, &core, node, Phase::Factory, deadline, factory).await?;
        let Some(value) = made else {
            // One that a scope is opened with has no factory.
            return Err(store.failed(node, Phase::Factory, Cause::NoInput));
        };
        instances[at].value = Some(value.clone());
        if let Some(on_start) = &described.on_start {
            let starting = async { on_start(value.clone()).await };
            run(store, &core, node, Phase::OnStart, deadline, starting).await?;
        }
        Ok(value)
    })
}

enum Given {
    Arg(Arg),
    /// The scope of the component, which is opened when all that it needs is there.
    Scope,
}

async fn gather_args(
    store: &Arc<Store>,
    node: usize,
    instances: &mut Vec<Instance>,
) -> Result<Vec<Given>, BuildFailed> {
    let described = &store.graph.nodes[node];
    // All are asked for before the first is waited for: they are built side by side.
    let mut asked = Vec::with_capacity(described.args.len());
    for arg in &described.args {
        asked.push(match arg {
            Needed::Node { target, .. } if store.graph.nodes[target.node].lifetime != Lifetime::Transient => {
                Some(store.ask(target.node)?)
            }
            _ => None,
        });
    }
    let mut given = Vec::with_capacity(asked.len());
    for (arg, asked) in described.args.iter().zip(asked) {
        given.push(match arg {
            Needed::Scope => Given::Scope,
            Needed::Absent => Given::Arg(Arg::Absent),
            Needed::Node { target, .. } => {
                let value = match asked {
                    Some(Asked::Ready(value)) => value,
                    Some(Asked::Wait(built)) => store.built(target.node, node, &built).await?,
                    None => make(store, target.node, instances, &mut None).await?,
                };
                Given::Arg(Arg::Value(match &target.cast {
                    Some(cast) => cast(&value),
                    None => value,
                }))
            }
        });
    }
    Ok(given)
}

/// Runs a phase in the component's scope, until it ends, is late or is given up.
async fn run<T>(
    store: &Store,
    core: &Arc<Core>,
    node: usize,
    phase: Phase,
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BuildFailed> {
    let cause = match limited(core, store, deadline, future).await {
        Ended::Returned(Ok(value)) => return Ok(value),
        Ended::Returned(Err(error)) => Cause::Returned(error),
        Ended::Panicked(payload) => Cause::Panicked(panic_words(payload)),
        // Given up; or a task that it started has panicked, or it has cancelled its own scope.
        Ended::Stopped => match core.reason().unwrap_or_else(|| Reason::of(ReasonKind::Ended)) {
            late if late.kind() == ReasonKind::Deadline => {
                Cause::TimedOut(store.graph.nodes[node].limits.start)
            }
            reason => Cause::Cancelled(reason),
        },
    };
    Err(store.failed(node, phase, cause))
}

async fn limited<T>(
    core: &Arc<Core>,
    store: &Store,
    deadline: Option<Instant>,
    future: impl Future<Output = Result<T, BoxError>>,
) -> Ended<T, BoxError> {
    let mut body = pin!(Body::new(future, core));
    let mut cancelled = pin!(store.given_up());
    // Armed when the body first waits.
    let mut late = pin!(deadline.map(sleep_until));
    poll_fn(|cx| {
        loop {
            let had_budget = has_budget_remaining();
            if let Poll::Ready(ended) = body.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            // What is raised ends the body when it is polled again, at once.
            if let Poll::Ready(reason) = poll_limit(cancelled.as_mut(), had_budget, cx) {
                core.raise(Level::Work, &reason);
                continue;
            }
            match late.as_mut().as_pin_mut().map(|late| poll_limit(late, had_budget, cx)) {
                Some(Poll::Ready(())) => core.raise(Level::Work, &Reason::of(ReasonKind::Deadline)),
                _ => return Poll::Pending,
            }
        }
    })
    .await
}
