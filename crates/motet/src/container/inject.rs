//! The argument types of factories.

use std::sync::Arc;
use std::vec;

use super::Named;
use super::key::{Key, Value};
use crate::task::{CancelToken, Scope};

/// A type that a factory may take as an argument.
///
/// | Argument | Value |
/// |---|---|
/// | `Arc<T>`, `Arc<dyn Trait>` | the component that was provided or bound as that type |
/// | [`Named<Tag, T>`](Named) | the component of that type that was provided with the tag |
/// | `Option<Arc<T>>`, `Option<Named<Tag, T>>` | the same, or `None` if it is not provided |
/// | [`Scope`] | the component's own scope: its tasks and deferred cleanups end when the component is stopped |
/// | [`CancelToken`] | the token of that scope: cancelled when the build is cancelled, or after `on_stop` |
///
/// The trait is sealed, so that more types can be added.
#[allow(unnameable_types, reason = "a bound that users do not write")]
pub trait Inject: sealed::Inject {}

impl<A: sealed::Inject> Inject for A {}

pub(crate) mod sealed {
    use super::{Args, Edge};

    #[expect(unnameable_types, reason = "the trait is implemented only in this module")]
    pub trait Inject: Sized + Send + 'static {
        fn edge() -> Edge;
        fn take(args: &mut Args) -> Self;
    }
}

/// The dependency of an argument.
#[derive(Debug, Clone, Copy)]
#[expect(unnameable_types, reason = "passed only between the container and a sealed trait")]
pub struct Edge(pub(crate) Need);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    Key { key: Key, optional: bool },
    Scope,
}

/// The arguments of one call, in order.
#[expect(unnameable_types, reason = "passed only between the container and a sealed trait")]
pub struct Args(pub(crate) vec::IntoIter<Arg>);

pub(crate) enum Arg {
    Value(Value),
    Absent,
    Scope(Scope),
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Args").field(&self.0.len()).finish()
    }
}

impl Args {
    fn value(&mut self) -> Option<Value> {
        match self.0.next() {
            Some(Arg::Value(value)) => Some(value),
            Some(Arg::Absent) => None,
            Some(Arg::Scope(_)) | None => unreachable!("the arguments are in the order of the edges"),
        }
    }

    fn required(&mut self) -> Value {
        self.value().expect("a checked plan has all required components")
    }

    fn scope(&mut self) -> Scope {
        match self.0.next() {
            Some(Arg::Scope(scope)) => scope,
            _ => unreachable!("the arguments are in the order of the edges"),
        }
    }
}

fn edge<Tag: 'static, T: ?Sized + 'static>(optional: bool) -> Edge {
    Edge(Need::Key { key: Key::of::<Tag, T>(), optional })
}

impl<T: ?Sized + Send + Sync + 'static> sealed::Inject for Arc<T> {
    fn edge() -> Edge {
        edge::<(), T>(false)
    }

    fn take(args: &mut Args) -> Self {
        args.required().arc()
    }
}

impl<T: ?Sized + Send + Sync + 'static> sealed::Inject for Option<Arc<T>> {
    fn edge() -> Edge {
        edge::<(), T>(true)
    }

    fn take(args: &mut Args) -> Self {
        args.value().map(|value| value.arc())
    }
}

impl<Tag: 'static, T: ?Sized + Send + Sync + 'static> sealed::Inject for Named<Tag, T> {
    fn edge() -> Edge {
        edge::<Tag, T>(false)
    }

    fn take(args: &mut Args) -> Self {
        Self::new(args.required().arc())
    }
}

impl<Tag: 'static, T: ?Sized + Send + Sync + 'static> sealed::Inject for Option<Named<Tag, T>> {
    fn edge() -> Edge {
        edge::<Tag, T>(true)
    }

    fn take(args: &mut Args) -> Self {
        args.value().map(|value| Named::new(value.arc()))
    }
}

impl sealed::Inject for Scope {
    fn edge() -> Edge {
        Edge(Need::Scope)
    }

    fn take(args: &mut Args) -> Self {
        args.scope()
    }
}

impl sealed::Inject for CancelToken {
    fn edge() -> Edge {
        Edge(Need::Scope)
    }

    fn take(args: &mut Args) -> Self {
        args.scope().token()
    }
}
