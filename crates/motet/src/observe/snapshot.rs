use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Component, Stats};
use crate::task::child::Stop;
use crate::task::core::{Core, panic_words};
use crate::task::gate::Class;
use crate::task::{Name, Reason, ReleaseCounts, Scope, root};

/// A scope, at the moment of the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScopeView {
    /// Its name.
    pub name: Name,
    /// Where it was opened.
    pub site: &'static Location<'static>,
    /// How long ago; where ages are kept ([`Options::keep_ages`](crate::task::ScopeBuilder::keep_ages)).
    pub age: Option<Duration>,
    /// Why it is cancelled, if it is.
    pub reason: Option<Reason>,
    /// Its tasks, the oldest first.
    pub tasks: Vec<TaskView>,
    /// How many more tasks it has: just started, or, where no ages are kept, in their first poll.
    pub starting: usize,
    /// What registered with it.
    pub components: Vec<ComponentView>,
    /// Releases of resources, in it and all scopes below.
    pub releases: ReleaseCounts,
    /// Scopes that its tasks opened.
    pub scopes: Vec<Self>,
}

/// A task, at the moment of the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskView {
    /// Its name.
    pub name: Name,
    /// What it is to its scope.
    pub kind: TaskKind,
    /// Whether its scope has cancelled it; it may still be running.
    pub is_cancelled: bool,
    /// Where it was started.
    pub site: &'static Location<'static>,
    /// How long ago it was first polled; where ages are kept.
    pub age: Option<Duration>,
}

/// What a task is to its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskKind {
    /// A child.
    Task,
    /// A service: cancelled last.
    Service,
    /// A release, or a scope whose future was dropped: cancelled by nobody.
    Cleanup,
}

/// A registered component, at the moment of the snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ComponentView {
    /// What it is: `pool`, `queue`.
    pub kind: &'static str,
    /// Its name.
    pub name: Name,
    /// What it shows.
    pub stats: Stats,
}

/// Shows every scope and task of the runtime. `None` when there are none.
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn snapshot() -> Option<ScopeView> {
    root::existing(&Handle::current()).map(|root| view(&root))
}

impl Scope {
    /// Shows the scope and all below it.
    #[must_use]
    pub fn snapshot(&self) -> ScopeView {
        view(&self.0)
    }
}

/// What a component shows. Its closure is a user's: a panic of one must not take the whole report along.
fn shown(stats: &(dyn Fn() -> Stats + Send + Sync)) -> Stats {
    let shown = catch_unwind(AssertUnwindSafe(stats));
    shown.unwrap_or_else(|payload| Stats::new().text("panicked", panic_words(payload)))
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
            .map(|Component { kind, name, stats }| ComponentView { kind, name, stats: shown(&*stats) })
            .collect(),
        releases: core.releases.read(),
        scopes: scopes.iter().map(view).collect(),
    }
}
