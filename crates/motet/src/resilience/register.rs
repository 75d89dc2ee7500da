//! Registration of named policies, so that snapshots show them.

use std::sync::Arc;

use crate::observe::{Registration, Stats};
use crate::task::{Name, Scope, ambient};

/// The scope with which a policy registers.
#[derive(Debug, Clone, Copy)]
pub(super) enum RegisterWith<'a> {
    Scope(&'a Scope),
    /// The scope of the running task, if it has one.
    AmbientScope,
    NoScope,
}

/// Registers a policy, if it has a name and there is a scope.
pub(super) fn register<S: Send + Sync + 'static>(
    with: RegisterWith<'_>,
    kind: &'static str,
    name: Option<Name>,
    shared: &Arc<S>,
    stats: impl Fn(Arc<S>) -> Stats + Send + Sync + 'static,
) -> Option<Registration> {
    let name = name?;
    let scope = match with {
        RegisterWith::Scope(scope) => scope.clone(),
        RegisterWith::AmbientScope => Scope(ambient::current()?),
        RegisterWith::NoScope => return None,
    };
    let weak = Arc::downgrade(shared);
    Some(scope.register(kind, name, move || weak.upgrade().map(&stats).unwrap_or_default()))
}
