//! The graph of a plan: the components with their dependencies.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::dag::{self, Needs};
use super::factory::Maker;
use super::key::Key;
use super::provider::{Cast, ComponentLimits, HealthHook, Hook, Lifetime, Site};

use crate::task::{Name, Policy};

pub(crate) struct Graph {
    /// The name of the container.
    pub(crate) name: Option<Name>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) keys: KeyMap<Target>,
    pub(crate) needs: Arc<Needs>,
    /// For each component, the components that must be stopped after it: its dependencies, with each transient replaced by
    /// the dependencies of that transient.
    pub(crate) beyond_transients: Arc<Needs>,
    /// The sum of the time limits of all stops.
    pub(crate) stop_limit: Duration,
    /// The number of slots in the store of the singletons, and in the store of a `Scoped`.
    pub(crate) singletons: usize,
    pub(crate) scoped: usize,
}

pub(crate) struct Node {
    pub(crate) key: Key,
    /// Its module and key, for messages.
    pub(crate) name: Name,
    pub(crate) module: Option<Name>,
    /// The further keys under which the component is found.
    pub(crate) binds: Vec<Key>,
    pub(crate) site: Site,
    pub(crate) lifetime: Lifetime,
    /// Its slot in the store of its lifetime; `None` for a transient.
    pub(crate) slot: Option<usize>,
    pub(crate) args: Vec<Needed>,
    pub(crate) maker: Maker,
    pub(crate) on_start: Option<Hook>,
    pub(crate) on_stop: Option<Hook>,
    pub(crate) health: Option<HealthHook>,
    pub(crate) limits: ComponentLimits,
    pub(crate) policy: Policy,
    /// `true` if a call of its factory with components from slots builds it, and nothing else is to do: see
    /// [`Store::build_plain`](super::store::Store::build_plain).
    pub(crate) is_plain: bool,
}

/// The source of an argument.
pub(crate) enum Needed {
    Node { target: Target, optional: bool },
    Absent,
    Scope,
}

/// The component that a key identifies.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) node: usize,
    pub(crate) cast: Option<Cast>,
    /// The number of the key.
    pub(crate) key: usize,
}

impl Node {
    /// Returns `true` if nothing has to be awaited when the component is stopped.
    pub(crate) fn stops_at_once(&self) -> bool {
        self.on_stop.is_none() && !self.asks_for_scope()
    }

    /// Returns `true` if its factory takes a scope or the cancel token of one.
    pub(crate) fn asks_for_scope(&self) -> bool {
        self.args.iter().any(|arg| matches!(arg, Needed::Scope))
    }
}

impl Graph {
    /// The names on the path from a component that no other component needs down to this one.
    pub(crate) fn path(&self, node: usize) -> Vec<Name> {
        dag::path_from_top(&dag::reversed(&self.needs), node)
            .into_iter()
            .map(|node| self.nodes[node].name.clone())
            .collect()
    }
}

/// Computes [`Graph::stop_limit`]. A component is stopped together with the transients that were built for it, one after the
/// other.
pub(crate) fn stop_limit(nodes: &[Node]) -> Duration {
    fn limit(nodes: &[Node], node: usize, known: &mut [Option<Duration>]) -> Duration {
        if let Some(known) = known[node] {
            return known;
        }
        let described = &nodes[node];
        let own = described.limits.stop.saturating_mul(3).saturating_add(Duration::from_secs(1));
        let made_for_it = described.args.iter().filter_map(|arg| match arg {
            Needed::Node { target, .. } => Some(target.node),
            Needed::Absent | Needed::Scope => None,
        });
        let all = made_for_it
            .filter(|needed| nodes[*needed].lifetime == Lifetime::Transient)
            .fold(own, |sum, needed| sum.saturating_add(limit(nodes, needed, known)));
        known[node] = Some(all);
        all
    }
    let mut known = vec![None; nodes.len()];
    (0..nodes.len()).fold(Duration::ZERO, |sum, node| sum.saturating_add(limit(nodes, node, &mut known)))
}

/// Computes [`Graph::beyond_transients`].
pub(crate) fn beyond_transients(nodes: &[Node], needs: &Arc<Needs>) -> Arc<Needs> {
    let beyond = |node: usize| {
        let mut found = Vec::new();
        let mut stack: Vec<usize> = needs[node].clone();
        let mut seen = vec![false; nodes.len()];
        while let Some(needed) = stack.pop() {
            if std::mem::replace(&mut seen[needed], true) {
                continue;
            }
            match nodes[needed].lifetime {
                Lifetime::Transient => stack.extend(&needs[needed]),
                Lifetime::Singleton | Lifetime::Scoped => found.push(needed),
            }
        }
        found
    };
    match nodes.iter().any(|node| node.lifetime == Lifetime::Transient) {
        true => Arc::new((0..nodes.len()).map(beyond).collect()),
        false => Arc::clone(needs),
    }
}

/// A map by type. A type id is a hash already: hashing it again would cost 8 of 15 ns per look-up.
pub(crate) type KeyMap<V, K = TypeId> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A later version of the standard library may hash a `TypeId` through this method.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}
