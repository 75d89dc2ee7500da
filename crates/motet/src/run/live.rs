//! The tasks that are left in a scope and its nested scopes.

use std::sync::Arc;

use crate::sync::Class;
use crate::task::Name;
use crate::task::core::Core;

/// The names of the tasks of a scope and its nested scopes that were cancelled and have not ended.
///
/// Services are cancelled last: they are named only when no other task is left.
pub(super) fn stuck(core: &Core) -> Vec<Name> {
    let class = if core.gate.count(Class::Work) > 0 { Class::Work } else { Class::Service };
    let (mut names, more) = core.named(class);
    if more > 0 {
        names.push(Name::from(format!("({more} more)")));
    }
    for below in below(core) {
        names.extend(stuck(&below));
    }
    names
}

/// The scopes opened in this scope. They are returned without the lock of this scope: dropping the last handle of one may
/// take it.
pub(super) fn below(core: &Core) -> Vec<Arc<Core>> {
    let state = core.state();
    state.scopes.iter().filter_map(|(_, scope)| scope.upgrade()).collect()
}
