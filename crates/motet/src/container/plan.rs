use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::factory::{Maker, Starts};
use super::graph::{Graph, KeyMap, Needed, Node, Target};
use super::hint::hints;
use super::inject::Need;
use super::key::Key;
use super::provider::{Lifetime, Provider, Site};
use super::start::{self, Wanted};
use super::{CheckError, GetError, Problem, ProvidedAt, Running, StartError, dag, draw, graph};
use crate::sim;
use crate::task::{Name, Scope};

/// A checked graph, in which every component has its dependencies.
///
/// Its `Display` output is a list. It can be drawn as [DOT](Self::to_dot) and [Mermaid](Self::to_mermaid).
pub struct Plan {
    graph: Arc<Graph>,
}

impl Plan {
    /// Builds all singletons, and waits until all have started.
    ///
    /// A plan can be started any number of times, also concurrently: each start has its own components. A factory that was
    /// added with [`provide`](super::Container::provide) can be called only once; those of
    /// [`provide_each_start`](super::Container::provide_each_start), and values, are available to every start. The plan keeps
    /// its values until it is dropped.
    ///
    /// Each component begins as soon as all its dependencies have started, and continues in a task of its own if it
    /// waits. The first error cancels the builds in progress and stops the built components in reverse order. The
    /// components belong to `scope` from the beginning: at its end, when all its children and services have ended, they
    /// are stopped in reverse order, before resources that the scope acquired earlier.
    ///
    /// # Cancel safety
    /// Safe: if the future is dropped, or the scope is cancelled during the start, the built components are stopped at
    /// once. The scope waits for that, and reports failures of the stop.
    ///
    /// # Errors
    /// [`StartError`] with the first failure, further failures, and the report of the stop of each component. A second start
    /// of a factory that can be called only once is a failure of that component.
    ///
    /// # Examples
    /// ```
    /// use motet::container::Container;
    /// use motet::task::{Nursery, scope};
    /// use std::sync::Arc;
    ///
    /// struct Session(Arc<String>);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut c = Container::new();
    /// c.value(String::from("settings"));
    /// c.provide_each_start(|settings: Arc<String>| async move { Session(settings) });
    /// let plan = c.check()?;
    /// for _request in 0..3 {
    ///     scope(async |n: &Nursery| {
    ///         let running = plan.start(n).await.unwrap();
    ///         assert_eq!(*running.get::<Session>().unwrap().0, "settings");
    ///         Ok(())
    ///     })
    ///     .await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn start(&self, scope: &Scope) -> impl Future<Output = Result<Running, StartError>> + Send + use<> {
        sim::around(
            "container",
            "start",
            start::start(Arc::clone(&self.graph), Starts::Many, scope, Wanted::All),
        )
    }

    /// Builds one component and its dependencies, like [`start`](Self::start), and leaves out the others. If a `Scoped`
    /// needs one of the others, that one is built then.
    ///
    /// # Cancel safety
    /// Safe: as [`start`](Self::start).
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::Unavailable`] if the component is not provided, or is not a singleton.
    #[track_caller]
    pub fn start_only<T: ?Sized + 'static>(
        &self,
        scope: &Scope,
    ) -> impl Future<Output = Result<Running, StartError>> + Send + use<T> {
        let wanted = Wanted::Only(Key::of::<(), T>());
        sim::around("container", "start", start::start(Arc::clone(&self.graph), Starts::Many, scope, wanted))
    }

    /// Starts the plan of a container that is started only once.
    #[track_caller]
    pub(crate) fn start_once(
        self,
        scope: &Scope,
    ) -> impl Future<Output = Result<Running, StartError>> + Send + use<> {
        start::start(self.graph, Starts::Once, scope, Wanted::All)
    }

    /// The names of the components, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.graph.nodes.iter().map(|node| node.name.as_str()).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Draws the graph for Graphviz: modules as clusters, optional edges dashed.
    #[must_use]
    pub fn to_dot(&self) -> String {
        draw::dot(&self.graph)
    }

    /// Draws the graph for Mermaid: modules as subgraphs, optional edges dotted.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        draw::mermaid(&self.graph)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        draw::list(&self.graph, f)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("components", &self.names().collect::<Vec<_>>()).finish()
    }
}

impl Graph {
    /// Returns the component of a key, or the error that explains why there is none.
    pub(crate) fn target(&self, key: Key) -> Result<&Target, GetError> {
        self.keys.get(&key.id()).ok_or_else(|| {
            let provided: Vec<(Key, Site)> = self.nodes.iter().map(|node| (node.key, node.site)).collect();
            GetError::not_provided(key, hints(key, &provided))
        })
    }
}

/// Connects every dependency with its provider, and collects all problems.
pub(crate) fn plan(name: Option<Name>, providers: Vec<Provider>) -> Result<Plan, CheckError> {
    let mut problems = invalid_hooks(&providers);
    let mut targets = distinct_targets(&providers).unwrap_or_else(|| targets(&providers, &mut problems));
    let live = live(&providers, &targets);
    targets.retain(|_, target| live[target.node]);
    let needs = missing(&providers, &live, &targets, &mut problems);
    problems.extend(
        dag::cycles(&needs).into_iter().map(|cycle| Problem::Cycle(provided_at_all(&providers, &cycle))),
    );
    outliving(&providers, &needs, &mut problems);
    if problems.is_empty() {
        Ok(Plan { graph: Arc::new(tied(name, providers, &live, targets, needs)) })
    } else {
        Err(CheckError(problems))
    }
}

fn invalid_hooks(providers: &[Provider]) -> Vec<Problem> {
    let misuses =
        providers.iter().flat_map(|provider| provider.misuse.iter().map(move |misuse| (provider, misuse)));
    misuses
        .map(|(provider, reason)| Problem::InvalidHook {
            provider: provided_at(provider),
            reason: reason.clone(),
        })
        .collect()
}

type Targets = KeyMap<Target>;

/// Maps each key to its provider, if each key has one provider, and none overrides another one.
fn distinct_targets(providers: &[Provider]) -> Option<Targets> {
    let mut targets = Targets::with_capacity_and_hasher(providers.len(), BuildHasherDefault::default());
    for (node, provider) in providers.iter().enumerate() {
        if provider.overrides
            || targets.insert(provider.key.id(), Target { node, cast: None, key: 0 }).is_some()
        {
            return None;
        }
        for bind in &provider.binds {
            let target = Target { node, cast: Some(Arc::clone(&bind.cast)), key: 0 };
            if targets.insert(bind.key.id(), target).is_some() {
                return None;
            }
        }
    }
    Some(targets)
}

/// Maps each key to its provider. If several providers have the same key, the first one is used, so that the rest of
/// the graph can be checked.
fn targets(providers: &[Provider], problems: &mut Vec<Problem>) -> Targets {
    /// In the order of registration, so that reports have this order.
    struct Claims {
        originals: Vec<(usize, Site)>,
        overrides: Vec<(usize, Site)>,
    }
    let mut order: Vec<Key> = Vec::new();
    let mut claims: KeyMap<Claims, Key> = KeyMap::default();
    for (at, provider) in providers.iter().enumerate() {
        for (key, site) in provider.keys() {
            let claims = claims.entry(key).or_insert_with(|| {
                order.push(key);
                Claims { originals: Vec::new(), overrides: Vec::new() }
            });
            let same = if provider.overrides { &mut claims.overrides } else { &mut claims.originals };
            same.push((at, site));
        }
    }
    let provided: Vec<(Key, Site)> =
        providers.iter().filter(|provider| !provider.overrides).flat_map(Provider::keys).collect();
    let mut targets = Targets::default();
    for key in order {
        let Claims { originals, overrides } = &claims[&key];
        for same in [originals, overrides] {
            if same.len() > 1 {
                let at = |(provider, site): &(usize, Site)| ProvidedAt {
                    site,
                    ..provided_at(&providers[*provider])
                };
                problems.push(Problem::Duplicate {
                    what: key.to_string(),
                    providers: same.iter().map(at).collect(),
                });
            }
        }
        if let (Some((at, site)), true) = (overrides.first(), originals.is_empty()) {
            let place = ProvidedAt { site, ..provided_at(&providers[*at]) };
            problems.push(Problem::UselessOverride {
                what: key.to_string(),
                place,
                hints: hints(key, &provided),
            });
        }
        let Some((node, _)) = overrides.first().or_else(|| originals.first()) else { continue };
        let cast =
            providers[*node].binds.iter().find(|bind| bind.key == key).map(|bind| Arc::clone(&bind.cast));
        targets.insert(key.id(), Target { node: *node, cast, key: 0 });
    }
    targets
}

/// Determines the providers that are left after the overrides: without the replaced providers, and without those that
/// only replaced providers needed.
fn live(providers: &[Provider], targets: &Targets) -> Vec<bool> {
    let mut live = vec![true; providers.len()];
    if !providers.iter().any(|provider| provider.overrides) {
        return live;
    }
    let needed = |need: &Need| match need {
        Need::Key { key, .. } => targets.get(&key.id()).map(|target| target.node),
        Need::Scope => None,
    };
    // The provider of each key before the overrides: the first one.
    let mut before: KeyMap<usize, Key> = KeyMap::default();
    for (at, provider) in providers.iter().enumerate().filter(|(_, provider)| !provider.overrides) {
        provider.keys().for_each(|(key, _)| _ = before.entry(key).or_insert(at));
    }
    let mut was_needed = vec![false; providers.len()];
    for need in providers.iter().filter(|provider| !provider.overrides).flat_map(|provider| &provider.needs) {
        if let Need::Key { key, .. } = need
            && let Some(at) = before.get(key)
        {
            was_needed[*at] = true;
        }
    }
    let is_replaced = |at: usize, provider: &Provider| {
        !provider.overrides
            && provider.keys().any(|(key, _)| {
                targets.get(&key.id()).is_some_and(|to| to.node != at && providers[to.node].overrides)
            })
    };
    loop {
        let mut users = vec![0_usize; providers.len()];
        for (_, provider) in providers.iter().enumerate().filter(|(at, _)| live[*at]) {
            provider.needs.iter().filter_map(needed).for_each(|at| users[at] += 1);
        }
        let gone = |at: usize, provider: &Provider| {
            live[at] && users[at] == 0 && !provider.overrides && (was_needed[at] || is_replaced(at, provider))
        };
        let gone: Vec<usize> = providers
            .iter()
            .enumerate()
            .filter(|(at, provider)| gone(*at, provider))
            .map(|(at, _)| at)
            .collect();
        if gone.is_empty() {
            return live;
        }
        gone.into_iter().for_each(|at| live[at] = false);
    }
}

/// Returns the dependencies of each provider. A required dependency without a provider is a problem.
fn missing(
    providers: &[Provider],
    live: &[bool],
    targets: &Targets,
    problems: &mut Vec<Problem>,
) -> dag::Needs {
    let mut missing: Vec<(Key, Vec<usize>)> = Vec::new();
    let mut needs = vec![Vec::new(); providers.len()];
    for (at, provider) in providers.iter().enumerate().filter(|(at, _)| live[*at]) {
        for need in &provider.needs {
            let Need::Key { key, optional } = need else { continue };
            match targets.get(&key.id()) {
                Some(target) if !needs[at].contains(&target.node) => needs[at].push(target.node),
                Some(_) => {}
                None if *optional => {}
                None => match missing.iter_mut().find(|(known, _)| known == key) {
                    Some((_, by)) => by.push(at),
                    None => missing.push((*key, vec![at])),
                },
            }
        }
    }
    if missing.is_empty() {
        return needs;
    }
    let provided: Vec<(Key, Site)> = providers
        .iter()
        .zip(live)
        .filter(|(_, live)| **live)
        .flat_map(|(provider, _)| provider.keys())
        .collect();
    let needed_by = dag::reversed(&needs);
    problems.extend(missing.into_iter().map(|(key, mut by)| {
        by.dedup();
        let way = |at: &usize| provided_at_all(providers, &dag::path_from_top(&needed_by, *at));
        Problem::Missing {
            what: key.to_string(),
            needed_by: by.iter().map(way).collect(),
            hints: hints(key, &provided),
        }
    }));
    needs
}

/// Finds singletons that depend on a scoped component, directly or through transients.
fn outliving(providers: &[Provider], needs: &dag::Needs, problems: &mut Vec<Problem>) {
    if !providers.iter().any(|provider| provider.lifetime == Lifetime::Scoped) {
        return;
    }
    for (at, _) in providers.iter().enumerate().filter(|(_, one)| one.lifetime == Lifetime::Singleton) {
        let mut seen = vec![false; providers.len()];
        let mut paths: Vec<Vec<usize>> = needs[at].iter().map(|needed| vec![at, *needed]).collect();
        while let Some(path) = paths.pop() {
            let end = path[path.len() - 1];
            if std::mem::replace(&mut seen[end], true) {
                continue;
            }
            match providers[end].lifetime {
                Lifetime::Singleton => {}
                Lifetime::Scoped => problems.push(Problem::Outlives(provided_at_all(providers, &path))),
                Lifetime::Transient => paths.extend(needs[end].iter().map(|needed| {
                    let mut longer = path.clone();
                    longer.push(*needed);
                    longer
                })),
            }
        }
    }
}

/// Builds the graph from providers without problems.
fn tied(
    name: Option<Name>,
    providers: Vec<Provider>,
    live: &[bool],
    mut targets: Targets,
    needs: dag::Needs,
) -> Graph {
    let mut number = vec![0; providers.len()];
    let mut count = 0;
    for (at, _) in live.iter().enumerate().filter(|(_, live)| **live) {
        number[at] = count;
        count += 1;
    }
    for (key, target) in targets.values_mut().enumerate() {
        *target = Target { node: number[target.node], cast: target.cast.take(), key };
    }
    let (mut singletons, mut scoped) = (0, 0);
    let mut nodes: Vec<Node> = Vec::with_capacity(count);
    for (provider, _) in providers.into_iter().zip(live).filter(|(_, live)| **live) {
        let next = match provider.lifetime {
            Lifetime::Singleton => Some(&mut singletons),
            Lifetime::Scoped => Some(&mut scoped),
            Lifetime::Transient => None,
        };
        let slot = next.map(|next| {
            *next += 1;
            *next - 1
        });
        let args = provider.needs.iter().map(|need| match need {
            Need::Scope => Needed::Scope,
            Need::Key { key, optional } => match targets.get(&key.id()) {
                Some(target) => Needed::Node { target: target.clone(), optional: *optional },
                None => Needed::Absent,
            },
        });
        nodes.push(Node {
            args: args.collect(),
            name: provider_name(&provider),
            key: provider.key,
            module: provider.module,
            binds: provider.binds.iter().map(|bind| bind.key).collect(),
            site: provider.site,
            lifetime: provider.lifetime,
            slot,
            maker: provider.maker,
            on_start: provider.on_start,
            on_stop: provider.on_stop,
            health: provider.health,
            limits: provider.limits,
            policy: provider.policy,
            is_plain: false,
        });
    }
    for node in 0..nodes.len() {
        let is_slot = |arg: &Needed| match arg {
            Needed::Node { target, .. } => nodes[target.node].lifetime != Lifetime::Transient,
            Needed::Absent => true,
            Needed::Scope => false,
        };
        let described = &nodes[node];
        nodes[node].is_plain = described.slot.is_some()
            && described.on_start.is_none()
            && !matches!(described.maker, Maker::Input)
            && described.args.iter().all(is_slot);
    }
    let needs: Vec<Vec<usize>> = needs
        .into_iter()
        .zip(live)
        .filter(|(_, live)| **live)
        .map(|(mut needs, _)| {
            needs.iter_mut().for_each(|needed| *needed = number[*needed]);
            needs.sort_unstable();
            needs
        })
        .collect();
    let needs = Arc::new(needs);
    let beyond_transients = graph::beyond_transients(&nodes, &needs);
    let stop_limit = graph::stop_limit(&nodes);
    Graph { name, nodes, keys: targets, needs, beyond_transients, stop_limit, singletons, scoped }
}

fn provider_name(provider: &Provider) -> Name {
    match &provider.module {
        Some(module) => Name::from(format!("{module}/{}", provider.key)),
        None => provider.key.name(),
    }
}

fn provided_at(provider: &Provider) -> ProvidedAt {
    ProvidedAt { name: provider_name(provider), site: provider.site, lifetime: provider.lifetime }
}

fn provided_at_all(providers: &[Provider], which: &[usize]) -> Vec<ProvidedAt> {
    which.iter().map(|at| provided_at(&providers[*at])).collect()
}
