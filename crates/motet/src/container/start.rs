//! The start of a container: it requests all components, and waits for all, or for the first failure.

use std::panic::Location;
use std::sync::Arc;

use tokio::task::coop;

use super::build::BuildClock;
use super::factory::Starts;
use super::graph::Graph;
use super::key::Key;
use super::owner::StoreOwner;
use super::provider::Lifetime;
use super::store::Store;
use super::{ComponentBuildError, GetError, Running, StartError, dag};
use crate::mutant;
use crate::observe::Stats;
use crate::task::{Name, Reason, ReasonKind, Scope};

/// The components to build.
pub(crate) enum Wanted {
    All,
    Only(Key),
}

#[track_caller]
pub(crate) fn start(
    graph: Arc<Graph>,
    starts: Starts,
    scope: &Scope,
    wanted: Wanted,
) -> impl Future<Output = Result<Running, StartError>> + Send + use<> {
    let (site, scope) = (Location::caller(), scope.clone());
    async move {
        let within = wanted.within(&graph).map_err(StartError::Unavailable)?;
        let name = graph.name.clone().unwrap_or_else(|| Name::from("container"));
        let store = Store::new(graph, starts, Arc::clone(&scope.0), None);
        if store.graph.name.is_some() {
            let of = Arc::downgrade(&store);
            let stats = move || of.upgrade().map(|store| store.stats()).unwrap_or_default();
            let registration = scope.register("container", name.clone(), stats);
            store.state().registration = Some(registration);
        }
        // From here on the scope has a pending cleanup that stops all built components.
        let Some(owner) = StoreOwner::new(store, name, site) else { return Err(StartError::Closed) };
        let starting = Starting(Some(owner));
        let store = Arc::clone(starting.store());
        let mut clock = BuildClock::default();
        for node in 0..store.graph.nodes.len() {
            let is_wanted = within.as_ref().is_none_or(|within| within[node]);
            if !is_wanted || store.graph.nodes[node].lifetime != Lifetime::Singleton {
                continue;
            }
            if !coop::has_budget_remaining() {
                // The next line waits, and time passes.
                clock = BuildClock::default();
            }
            coop::consume_budget().await;
            if let Err(failed) = store.ask(node, 0, &clock) {
                return Err(starting.failed(failed).await);
            }
        }
        let failed = store
            .until(|state| match state.failures.first() {
                Some(first) => Some(Some(first.clone())),
                None => (state.building == 0).then_some(None),
            })
            .await;
        match failed {
            Some(first) => Err(starting.failed(first).await),
            None => {
                // Before `done`, so that the drop of `starting` stops the components if a cast panics.
                let values = Running::values(&store);
                Ok(Running::new(starting.done(), values))
            }
        }
    }
}

impl Wanted {
    /// The components to build, of which each singleton is requested; `None` for all.
    fn within(self, graph: &Graph) -> Result<Option<Vec<bool>>, GetError> {
        let Self::Only(key) = self else { return Ok(None) };
        let node = graph.target(key)?.node;
        match graph.nodes[node].lifetime {
            Lifetime::Singleton => Ok(Some(dag::closure(&graph.needs, node))),
            lifetime => Err(GetError::not_singleton(key, lifetime)),
        }
    }
}

/// A start in progress. Dropping it stops the components that were built.
struct Starting(Option<StoreOwner>);

impl Starting {
    fn store(&self) -> &Arc<Store> {
        self.0.as_ref().expect("the owner is present until `done`").store()
    }

    fn done(mut self) -> StoreOwner {
        self.0.take().expect("the owner is present until `done`")
    }

    /// Stops the built components, and returns the error of the start.
    async fn failed(self, first: ComponentBuildError) -> StartError {
        let store = Arc::clone(self.store());
        let reason = Reason::new(ReasonKind::Failed, None, Some(Name::from("a component did not start")));
        let rollback = self.done().stop(reason).await;
        let others: Vec<ComponentBuildError> = {
            let state = store.state();
            let others = state.failures.iter().filter(|one| !Arc::ptr_eq(&one.0, &first.0));
            // The cancellation of the other builds is not a failure of its own.
            others.filter(|other| !other.is_cancelled()).cloned().collect()
        };
        match (store.host.reason(), first.is_cancelled()) {
            (Some(reason), true) => StartError::Cancelled { reason, rollback },
            _ => StartError::Build { first, others, rollback },
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if mutant!("container.keep_dropped_start") {
            return;
        }
        if let Some(owner) = self.0.take() {
            owner.stop_later(Reason::of(ReasonKind::Dropped));
        }
    }
}

impl Store {
    /// The statistics of the container for snapshots.
    fn stats(&self) -> Stats {
        let state = self.state();
        let phase = match state.phase {
            super::store::StoreLife::Closing => "stopping",
            super::store::StoreLife::Closed => "stopped",
            super::store::StoreLife::Open if state.building > 0 => "starting",
            super::store::StoreLife::Open => "running",
        };
        Stats::new()
            .text("state", phase)
            .count("components", self.graph.nodes.len() as u64)
            .count("starting", state.building as u64)
            .count("ready", state.built.len() as u64)
            .count("scoped", state.scoped.iter().filter(|scoped| scoped.strong_count() > 0).count() as u64)
    }
}
