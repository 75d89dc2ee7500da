//! What is alive in a scope and below it.

use std::fmt::Write;
use std::sync::Arc;

use crate::task::Name;
use crate::task::core::Core;
use crate::task::gate::Class;

/// Names what was cancelled in a scope and below it, and has not ended.
///
/// Services are told last: they are named once nothing else is left.
pub(super) fn stuck(core: &Core) -> Vec<Name> {
    let class = if core.gate.count(Class::Work) > 0 { Class::Work } else { Class::Service };
    let mut names = core.state().names(class);
    // Those past the limit, and those that have been busy ever since their start, so that no list has them.
    let more = core.gate.count(class).saturating_sub(names.len());
    if more > 0 {
        names.push(Name::from(format!("({more} more)")));
    }
    for below in below(core) {
        names.extend(stuck(&below));
    }
    names
}

/// Draws a scope and everything below it.
pub(super) fn tree(core: &Core) -> String {
    let mut text = String::new();
    draw(core, 0, &mut text);
    text
}

fn draw(core: &Core, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    // Writing to a string does not fail.
    let _ = write!(text, "{indent}scope {} at {}", core.name, core.site);
    if let Some(reason) = core.reason() {
        let _ = write!(text, " ({reason})");
    }
    let mut state = core.state();
    text.push('\n');
    state.children.for_each(|child| {
        let kind = if child.spec.class == Class::Service { "service" } else { "task" };
        let _ = writeln!(text, "{indent}  {kind} {} at {}", child.spec.name, child.spec.site);
    });
    drop(state);
    for below in below(core) {
        draw(&below, depth + 1, text);
    }
}

/// The scopes opened in this one. Not under the lock of this one: the last handle may be dropped here.
pub(super) fn below(core: &Core) -> Vec<Arc<Core>> {
    let state = core.state();
    state.scopes.iter().filter_map(|(_, scope)| scope.upgrade()).collect()
}
