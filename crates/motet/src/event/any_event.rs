use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::task::Name;

/// A type of events.
///
/// Listeners receive the event by reference or share it, so it does not have to be `Clone`.
///
/// # Examples
/// ```
/// use motet::event::Event;
///
/// struct UserCreated {
///     id: u64,
/// }
///
/// impl Event for UserCreated {
///     const NAME: &'static str = "user.created";
/// }
/// ```
pub trait Event: Send + Sync + 'static {
    /// The name that patterns are compared with: segments, separated by dots.
    const NAME: &'static str;
}

/// Any event, as a listener of a pattern receives it. Implemented for every [`Event`], and for the events
/// of [`Emitter::emit_named`](super::Emitter::emit_named).
///
/// # Examples
/// ```
/// use motet::event::{AnyEvent, Event};
/// use std::sync::Arc;
///
/// struct UserCreated(u64);
/// impl Event for UserCreated {
///     const NAME: &'static str = "user.created";
/// }
///
/// let any: Arc<dyn AnyEvent> = Arc::new(UserCreated(7));
/// assert_eq!(any.name(), "user.created");
/// assert_eq!(any.downcast_ref::<UserCreated>().unwrap().0, 7);
/// assert!(any.downcast_ref::<u32>().is_none());
/// ```
pub trait AnyEvent: sealed::Sealed + Any + Send + Sync {
    /// The name of the event.
    fn name(&self) -> &str;

    #[doc(hidden)]
    fn value(&self) -> &(dyn Any + Send + Sync);

    #[doc(hidden)]
    fn into_value(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<E: Event> AnyEvent for E {
    fn name(&self) -> &str {
        E::NAME
    }

    fn value(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn into_value(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl AnyEvent for NamedEvent {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn value(&self) -> &(dyn Any + Send + Sync) {
        &*self.value
    }

    fn into_value(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.value)
    }
}

impl dyn AnyEvent {
    /// Returns the event, or the value of a named event, if its type is `T`.
    #[must_use]
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.value().downcast_ref()
    }

    /// Returns a shared reference to the event, or to the value of a named event, if its type is `T`.
    #[must_use]
    pub fn downcast<T: Any + Send + Sync>(self: &Arc<Self>) -> Option<Arc<T>> {
        self.value().is::<T>().then(|| Arc::clone(self).into_value().downcast().ok()).flatten()
    }
}

impl fmt::Debug for dyn AnyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyEvent").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// An event whose name is known only at run time: see [`Emitter::emit_named`](super::Emitter::emit_named).
pub(super) struct NamedEvent {
    pub(super) name: Name,
    pub(super) value: Arc<dyn Any + Send + Sync>,
}

impl NamedEvent {
    pub(super) fn new(name: Name, value: impl Any + Send + Sync) -> Self {
        Self { name, value: Arc::new(value) }
    }

    /// Returns the value of an event that was refused.
    pub(super) fn into_value<T: Any + Send + Sync>(self) -> T {
        let value = self.value.downcast::<T>().ok().and_then(Arc::into_inner);
        value.expect("a refused event was not shared, and has the type that it was created with")
    }
}

impl fmt::Debug for NamedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedEvent").field("name", &self.name).finish_non_exhaustive()
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "the trait is implemented only in this module")]
    pub trait Sealed {}
    impl<E: super::Event> Sealed for E {}
    impl Sealed for super::NamedEvent {}
}
