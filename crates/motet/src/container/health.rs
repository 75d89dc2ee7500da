//! Health checks of components, combined along the graph.

use std::fmt;
use std::sync::Arc;

use super::dag::Needs;
use super::factory::BoxError;
use super::graph::{Graph, Needed};
use super::provider::Lifetime;
use super::store::{BuiltComponent, ComponentSlot, Store, StoreLife};
use crate::mutant;
use crate::sync::panic_words;
use crate::task::caught::Caught;
use crate::task::cause::with_sources;
use crate::task::core::Level;
use crate::task::{Name, gather, timeout};

/// The health of a component. Worse health is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// The component does not work.
    Unhealthy,
    /// The component works with restrictions.
    Degraded,
    /// The component works.
    Healthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unhealthy => "unhealthy",
            Self::Degraded => "degraded",
            Self::Healthy => "healthy",
        })
    }
}

/// The return value of a health check: a [`Health`], a `Result<(), E>` or a `Result<Health, E>`. An error counts as
/// [`Health::Unhealthy`].
#[allow(unnameable_types, reason = "a bound that users do not write")]
pub trait HealthOutcome: sealed::Sealed {
    #[doc(hidden)]
    fn into_health(self) -> Result<Health, BoxError>;
}

impl HealthOutcome for Health {
    fn into_health(self) -> Result<Health, BoxError> {
        Ok(self)
    }
}

impl<E: Into<BoxError>> HealthOutcome for Result<(), E> {
    fn into_health(self) -> Result<Health, BoxError> {
        self.map(|()| Health::Healthy).map_err(Into::into)
    }
}

impl<E: Into<BoxError>> HealthOutcome for Result<Health, E> {
    fn into_health(self) -> Result<Health, BoxError> {
        self.map_err(Into::into)
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "the trait is implemented only in this module")]
    pub trait Sealed {}
    impl Sealed for super::Health {}
    impl<E> Sealed for Result<(), E> {}
    impl<E> Sealed for Result<super::Health, E> {}
}

/// The health of the components of a container.
#[derive(Debug)]
pub struct HealthReport {
    components: Vec<ComponentHealth>,
    life: StoreLife,
}

/// The health of a component.
#[derive(Debug)]
#[non_exhaustive]
pub struct ComponentHealth {
    /// The module and the type of the component.
    pub name: Name,
    /// The health of the component, which is at most the health of its dependencies. An unhealthy optional dependency
    /// makes it degraded.
    pub health: Health,
    /// The result of the component's own health check.
    pub own: Health,
    /// The error of the component's own health check, if it failed.
    pub error: Option<BoxError>,
    /// The dependency whose own health reduces the health of this component, if there is one.
    pub because_of: Option<Name>,
}

impl HealthReport {
    /// The health of the whole container: that of the least healthy component. A container that is stopping or stopped
    /// is [`Health::Unhealthy`], whatever its components report.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.is_stopping() {
            return Health::Unhealthy;
        }
        self.components.iter().map(|component| component.health).min().unwrap_or(Health::Healthy)
    }

    /// Returns `true` if the stop of the container had begun: by [`Running::stop`](super::Running::stop), or by the end
    /// of its scope.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.life != StoreLife::Open
    }

    /// Returns `true` if the container was stopped. Then there are no components to report.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.life == StoreLife::Closed
    }

    /// The components that were checked, in the order in which they were provided.
    #[must_use]
    pub fn components(&self) -> &[ComponentHealth] {
        &self.components
    }

    /// Returns the component with this name.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&ComponentHealth> {
        self.components.iter().find(|component| component.name == name)
    }
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.health())?;
        match self.life {
            StoreLife::Open => {}
            StoreLife::Closing => f.write_str(": the container is being stopped")?,
            StoreLife::Closed => f.write_str(": the container is stopped")?,
        }
        for component in &self.components {
            write!(f, "\n  `{}` {}", component.name, component.health)?;
            if let Some(other) = &component.because_of {
                write!(f, ", because of `{other}`")?;
            }
            if let Some(error) = component.error.as_deref() {
                write!(f, ": {}", with_sources(error))?;
            }
        }
        Ok(())
    }
}

/// Runs all health checks concurrently in the calling task.
pub(crate) async fn check(store: &Arc<Store>) -> HealthReport {
    let graph = &store.graph;
    // The components that are built, each with `true` if its scope was cancelled.
    let there: Vec<_> = {
        let state = store.state();
        let singletons = graph.nodes.iter().enumerate();
        let found =
            singletons.filter(|(_, node)| node.lifetime == Lifetime::Singleton).filter_map(|(at, node)| {
                match node.slot.and_then(|slot| state.slots.get(slot)) {
                    Some(ComponentSlot::Ready(value)) => Some((at, value.clone())),
                    _ => None,
                }
            });
        let found: Vec<_> = found.collect();
        let ended = |at: usize| {
            let instances =
                state.built.iter().filter(|built| built.node == at).flat_map(BuiltComponent::instances);
            instances
                .filter_map(|instance| Some(instance.open.as_ref()?.core()))
                .any(|core| core.reached(Level::Work))
        };
        found.into_iter().map(|(at, value)| (at, value, ended(at))).collect()
    };
    let answers = gather(there.iter().map(|(at, value, ended)| async move {
        let node = &graph.nodes[*at];
        if *ended {
            return Err("the scope of the component was cancelled: a task of it panicked, or the component cancelled it".into());
        }
        let Some(ask) = &node.health else { return Ok(Health::Healthy) };
        let asking = async { ask(value.clone()).await };
        match Caught::new(Box::pin(timeout(node.limits.health, asking))).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(format!("the health check took longer than {:?}", node.limits.health).into()),
            Err(payload) => Err(format!("the health check panicked: {}", panic_words(payload)).into()),
        }
    }))
    .await;
    let mut own = vec![Health::Healthy; graph.nodes.len()];
    let mut errors: Vec<Option<BoxError>> = Vec::with_capacity(answers.len());
    for ((at, ..), answer) in there.iter().zip(answers) {
        let (health, error) = match answer {
            Ok(health) => (health, None),
            Err(error) => (Health::Unhealthy, Some(error)),
        };
        own[*at] = health;
        errors.push(error);
    }
    let along = aggregate(&own, &graph.needs, |node, needed| is_optional(graph, node, needed));
    let components = there.iter().zip(errors).map(|((at, ..), error)| {
        let (health, because_of) = along[*at];
        ComponentHealth {
            name: graph.nodes[*at].name.clone(),
            health,
            own: own[*at],
            error,
            because_of: (health < own[*at]).then(|| graph.nodes[because_of].name.clone()),
        }
    });
    let components = components.collect();
    // Read last: the results of the checks are out of date if a stop began during the checks.
    HealthReport { components, life: store.life() }
}

/// Returns `true` if all arguments of `node` that take `needed` are optional.
fn is_optional(graph: &Graph, node: usize, needed: usize) -> bool {
    graph.nodes[node].args.iter().all(|arg| match arg {
        Needed::Node { target, optional } if target.node == needed => *optional,
        _ => true,
    })
}

/// Returns the health of each component together with its dependencies, and the component whose own health determines
/// it.
fn aggregate(
    own: &[Health],
    needs: &Needs,
    is_optional: impl Fn(usize, usize) -> bool,
) -> Vec<(Health, usize)> {
    let mut along: Vec<(Health, usize)> = own.iter().copied().zip(0..).collect();
    // The health of a component only decreases, so the loop ends after at most one pass per component.
    let mut changed = true;
    if mutant!("container.health_alone") {
        changed = false;
    }
    while changed {
        changed = false;
        for node in 0..needs.len() {
            for &needed in &needs[node] {
                let (mut health, because_of) = along[needed];
                if is_optional(node, needed) {
                    health = health.max(Health::Degraded);
                }
                if health < along[node].0 {
                    along[node] = (health, because_of);
                    changed = true;
                }
            }
        }
    }
    along
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn aggregated_health_agrees_with_a_naive_model(
            own in vec(0..3_u8, 1..10),
            edges in vec((0..10_usize, 0..10_usize, any::<bool>()), 0..20),
        ) {
            let levels = [Health::Unhealthy, Health::Degraded, Health::Healthy];
            let own: Vec<Health> = own.into_iter().map(|level| levels[usize::from(level)]).collect();
            let mut needs = vec![Vec::new(); own.len()];
            let mut optional = Vec::new();
            for (from, to, is_optional) in edges {
                if from < own.len() && to < from && !needs[from].contains(&to) {
                    needs[from].push(to);
                    if is_optional {
                        optional.push((from, to));
                    }
                }
            }
            let along = aggregate(&own, &needs, |from, to| optional.contains(&(from, to)));
            // Edges go to lower numbers, so the dependencies of a node are computed before it.
            let mut expected = own.clone();
            for node in 0..own.len() {
                for needed in &needs[node] {
                    let most = match optional.contains(&(node, *needed)) {
                        true => expected[*needed].max(Health::Degraded),
                        false => expected[*needed],
                    };
                    expected[node] = expected[node].min(most);
                }
            }
            let found: Vec<Health> = along.iter().map(|(health, _)| *health).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
