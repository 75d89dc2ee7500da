//! What is left in a scope and below it.

use std::sync::Arc;

use crate::task::Name;
use crate::task::core::Core;
use crate::task::gate::Class;

/// Names what was cancelled in a scope and below it, and has not ended.
///
/// Services are told last: they are named once nothing else is left.
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

/// The scopes opened in this one. Not under the lock of this one: the last handle may be dropped here.
pub(super) fn below(core: &Core) -> Vec<Arc<Core>> {
    let state = core.state();
    state.scopes.iter().filter_map(|(_, scope)| scope.upgrade()).collect()
}
