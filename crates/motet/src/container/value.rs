use std::any::Any;
use std::sync::Arc;

/// An `Arc<T>` of a type that only its key knows. Inside is the `Arc` itself, since `T` may be a trait object.
#[derive(Clone)]
pub(crate) struct Value(Arc<dyn Any + Send + Sync>);

impl Value {
    pub(crate) fn new<T: ?Sized + Send + Sync + 'static>(value: Arc<T>) -> Self {
        Self(Arc::new(value))
    }

    pub(crate) fn get<T: ?Sized + Send + Sync + 'static>(&self) -> Option<&Arc<T>> {
        self.0.downcast_ref()
    }

    /// # Panics
    /// If it is of another type, which no key leads to.
    pub(crate) fn arc<T: ?Sized + Send + Sync + 'static>(&self) -> Arc<T> {
        Arc::clone(self.get().expect("a key leads to values of its type alone"))
    }
}
