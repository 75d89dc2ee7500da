use std::any::Any;
use std::sync::Arc;

/// An `Arc<T>` whose type only its key knows. The box contains the `Arc` itself, since `T` may be a trait object.
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
    /// If the value is of another type, which its key excludes.
    pub(crate) fn arc<T: ?Sized + Send + Sync + 'static>(&self) -> Arc<T> {
        Arc::clone(self.get().expect("a key identifies values of its own type"))
    }
}
