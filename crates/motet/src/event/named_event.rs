use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::task::Name;

/// An event whose name is known only at run time: see [`Emitter::emit_named`](super::Emitter::emit_named).
pub struct NamedEvent {
    pub(super) name: Name,
    pub(super) value: Arc<dyn Any + Send + Sync>,
}

impl NamedEvent {
    pub(super) fn new(name: Name, value: impl Any + Send + Sync) -> Self {
        Self { name, value: Arc::new(value) }
    }

    /// Returns the value, if its type is `T` and no listener holds a reference to it.
    ///
    /// # Errors
    /// The unchanged event.
    pub fn into_value<T: Any + Send + Sync>(self) -> Result<T, Self> {
        let Self { name, value } = self;
        match value.downcast::<T>() {
            Ok(value) => Arc::try_unwrap(value).map_err(|value| Self { name, value }),
            Err(value) => Err(Self { name, value }),
        }
    }
}

impl fmt::Debug for NamedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedEvent").field("name", &self.name).finish_non_exhaustive()
    }
}
