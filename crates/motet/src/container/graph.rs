//! The graph of a plan: every component knows which ones it needs.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::dag::{self, Needs};
use super::factory::Maker;
use super::provider::{Cast, HealthHook, Hook, Limits, Site};
use super::{Key, Lifetime};
use crate::task::{Name, Policy};

pub(crate) struct Graph {
    /// The container's name.
    pub(crate) name: Option<Name>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) keys: KeyMap<Target>,
    pub(crate) needs: Needs,
    pub(crate) needed_by: Needs,
    /// What each needs together with the transients that its factory owns, directly or through each other: those of it
    /// that are not transient.
    pub(crate) beyond_transients: Arc<Needs>,
    /// How many slots the stores of singletons and of scoped ones have.
    pub(crate) singletons: usize,
    pub(crate) scoped: usize,
}

pub(crate) struct Node {
    pub(crate) key: Key,
    /// Its module and key, for people.
    pub(crate) name: Name,
    pub(crate) module: Option<Name>,
    /// What it is known as, too.
    pub(crate) binds: Vec<Key>,
    pub(crate) site: Site,
    pub(crate) lifetime: Lifetime,
    /// Its place among those of its lifetime; a transient has none.
    pub(crate) slot: Option<usize>,
    pub(crate) args: Vec<Needed>,
    pub(crate) maker: Maker,
    pub(crate) on_start: Option<Hook>,
    pub(crate) on_stop: Option<Hook>,
    pub(crate) health: Option<HealthHook>,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
}

/// What an argument is filled with.
pub(crate) enum Needed {
    Node { target: Target, optional: bool },
    Absent,
    Scope,
}

/// What a key leads to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) node: usize,
    pub(crate) cast: Option<Cast>,
}

impl Node {
    /// Whether its factory does, or asks for the token of it.
    pub(crate) fn asks_for_scope(&self) -> bool {
        self.args.iter().any(|arg| matches!(arg, Needed::Scope))
    }
}

impl Graph {
    /// Names from a component that nobody needs down to this one.
    pub(crate) fn path(&self, node: usize) -> Vec<Name> {
        dag::path_from_top(&self.needed_by, node)
            .into_iter()
            .map(|node| self.nodes[node].name.clone())
            .collect()
    }

    /// For each component, how long it may take to stop it together with the transients that were made for it: one after
    /// the other, as often as they are asked for.
    pub(crate) fn stop_limits(&self) -> impl Iterator<Item = Duration> {
        fn limit(graph: &Graph, node: usize, known: &mut [Option<Duration>]) -> Duration {
            if let Some(known) = known[node] {
                return known;
            }
            let described = &graph.nodes[node];
            let own = described.limits.stop.saturating_mul(3).saturating_add(Duration::from_secs(1));
            let made_for_it = described.args.iter().filter_map(|arg| match arg {
                Needed::Node { target, .. } => Some(target.node),
                Needed::Absent | Needed::Scope => None,
            });
            let all = made_for_it
                .filter(|needed| graph.nodes[*needed].lifetime == Lifetime::Transient)
                .fold(own, |sum, needed| sum.saturating_add(limit(graph, needed, known)));
            known[node] = Some(all);
            all
        }
        let mut known = vec![None; self.nodes.len()];
        (0..self.nodes.len()).map(move |node| limit(self, node, &mut known))
    }
}

/// See [`Graph::beyond_transients`].
pub(crate) fn beyond_transients(nodes: &[Node], needs: &Needs) -> Needs {
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
        true => (0..nodes.len()).map(beyond).collect(),
        false => needs.clone(),
    }
}

/// A map of types, whose ids are hashes already: hashing them again cost 8 ns of 15 per look-up.
pub(crate) type KeyMap<V, K = TypeId> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // What else a later standard library may hash of a `TypeId`.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}
