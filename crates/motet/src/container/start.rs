//! The start of a container: it requests all components, and waits for all, or for the first failure.

use std::panic::Location;
use std::sync::Arc;

use tokio::task::coop;

use super::graph::{Graph, Node};
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
    scope: &Scope,
    wanted: Wanted,
) -> impl Future<Output = Result<Running, StartError>> + Send + use<> {
    let (site, scope) = (Location::caller(), scope.clone());
    async move {
        let wanted = wanted.nodes(&graph).map_err(StartError::Unavailable)?;
        let name = graph.name.clone().unwrap_or_else(|| Name::from("container"));
        let store = Store::new(graph, Arc::clone(&scope.0), None);
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
        for node in wanted {
            coop::consume_budget().await;
            if let Err(failed) = store.ask(node, 0) {
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
    /// The singletons to build, in the order in which they were provided.
    fn nodes(self, graph: &Graph) -> Result<Vec<usize>, GetError> {
        let is_singleton = |node: &Node| node.lifetime == Lifetime::Singleton;
        let within = match self {
            Self::All => vec![true; graph.nodes.len()],
            Self::Only(key) => {
                let node = graph.target(key)?.node;
                let found = &graph.nodes[node];
                if !is_singleton(found) {
                    return Err(GetError::not_singleton(key, found.lifetime));
                }
                dag::closure(&graph.needs, node)
            }
        };
        let nodes = graph.nodes.iter().enumerate();
        Ok(nodes.filter(|(at, node)| within[*at] && is_singleton(node)).map(|(at, _)| at).collect())
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
