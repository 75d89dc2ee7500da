use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Component, Stats};
use crate::sync::{Class, catch};
use crate::task::child::Stop;
use crate::task::core::Core;
use crate::task::{Name, Reason, ReleaseCounts, Scope, root};

/// A scope at the time of the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScopeView {
    /// The name.
    pub name: Name,
    /// The line that opened the scope.
    pub site: &'static Location<'static>,
    /// The age; `None` without [`keep_ages`](crate::task::ScopeBuilder::keep_ages).
    pub age: Option<Duration>,
    /// The reason of the cancellation; `None` if the scope is not cancelled.
    pub reason: Option<Reason>,
    /// The tasks, the oldest first.
    pub tasks: Vec<TaskView>,
    /// The number of further tasks: tasks that have just started, or, without ages, that are in their first poll.
    pub starting: usize,
    /// The registered components.
    pub components: Vec<ComponentView>,
    /// The releases of resources in this scope and the scopes within it.
    pub releases: ReleaseCounts,
    /// The scopes that its tasks opened.
    pub scopes: Vec<Self>,
}

/// A task at the time of the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskView {
    /// The name.
    pub name: Name,
    /// The role of the task in its scope.
    pub kind: TaskKind,
    /// The scope has cancelled the task, which may still be running.
    pub is_cancelled: bool,
    /// The line that started the task.
    pub site: &'static Location<'static>,
    /// The time since the first poll; `None` without [`keep_ages`](crate::task::ScopeBuilder::keep_ages).
    pub age: Option<Duration>,
}

/// The role of a task in its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskKind {
    /// A child.
    Task,
    /// A service, which is cancelled after the children.
    Service,
    /// A release, or a scope whose future was dropped. It is not cancelled.
    Cleanup,
}

#[cfg(any(feature = "json", feature = "metrics"))]
impl TaskKind {
    /// The word for the kind, for programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Service => "service",
            Self::Cleanup => "cleanup",
        }
    }
}

/// A registered component at the time of the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ComponentView {
    /// The kind of component, such as `pool`.
    pub kind: &'static str,
    /// The name.
    pub name: Name,
    /// The values that it shows.
    pub stats: Stats,
    /// Of this component alone, in the whole process.
    #[cfg(feature = "metrics")]
    pub(super) id: u64,
}

/// Returns the tree of all scopes and tasks of the runtime; `None` if there are none.
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn snapshot() -> Option<ScopeView> {
    root::existing(&Handle::current()).map(|root| view(&root))
}

impl Scope {
    /// Returns the tree of this scope and the scopes within it.
    #[must_use]
    pub fn snapshot(&self) -> ScopeView {
        view(&self.0)
    }
}

/// Returns the values of a component. A panic of its closure, which is user code, must not prevent the report.
fn shown(stats: &(dyn Fn() -> Stats + Send + Sync)) -> Stats {
    catch(stats).unwrap_or_else(|panic| Stats::new().text("panicked", panic))
}

pub(crate) fn view(core: &Arc<Core>) -> ScopeView {
    let age = core.opened.map(|opened| opened.elapsed());
    let (mut tasks, mut hidden) = (Vec::new(), 0);
    core.each_child(|child| {
        if child.spec.is_hidden() {
            hidden += 1;
            return;
        }
        let kind = match (child.spec.class, child.spec.stop) {
            (_, Stop::Never) => TaskKind::Cleanup,
            (Class::Service, _) => TaskKind::Service,
            (Class::Work, _) => TaskKind::Task,
        };
        let is_cancelled = kind != TaskKind::Cleanup && core.reached(child.spec.class.cancelled_at());
        tasks.push(TaskView {
            name: child.spec.name.clone(),
            kind,
            is_cancelled,
            site: child.spec.site,
            age: age.zip(child.scope_age).map(|(now, then)| now.saturating_sub(then)),
        });
    });
    let state = core.state();
    let reason = state.reason.clone();
    let components: Vec<Component> =
        state.components.iter().map(|(_, component)| component.clone()).collect();
    let scopes: Vec<Arc<Core>> = state.scopes.iter().filter_map(|(_, scope)| Weak::upgrade(scope)).collect();
    drop(state);
    let counted = core.gate.count(Class::Work) + core.gate.count(Class::Service);
    ScopeView {
        name: core.name.clone(),
        site: core.site,
        age,
        reason,
        starting: counted.saturating_sub(tasks.len() + hidden),
        tasks,
        components: components
            .into_iter()
            .map(|component| ComponentView {
                kind: component.kind,
                name: component.name,
                stats: shown(&*component.stats),
                #[cfg(feature = "metrics")]
                id: component.id,
            })
            .collect(),
        releases: core.releases.read(),
        scopes: scopes.iter().map(view).collect(),
    }
}
