use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// A component that was provided with the tag `Tag`, to distinguish several components of one type.
///
/// `Tag` is any type, usually a unit struct, so that the compiler finds a misspelt tag. See
/// [`Provided::named`](super::Provided::named).
///
/// # Examples
/// ```
/// use motet::container::{Container, Named};
/// use std::sync::Arc;
///
/// struct Primary;
/// struct Replica;
/// struct Reader(String);
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # motet::task::scope(async |n: &motet::task::Nursery| {
/// let mut c = Container::new();
/// c.value(String::from("db1")).named(Primary);
/// c.value(String::from("db2")).named(Replica);
/// c.provide(|url: Named<Replica, String>| async move { Reader(url.to_string()) });
/// let running = c.start(n).await.unwrap();
/// assert_eq!(running.get::<Reader>().unwrap().0, "db2");
/// assert_eq!(*running.get_named::<Primary, String>().unwrap(), "db1");
/// # Ok(())
/// # }).await.unwrap();
/// # Ok(())
/// # }
/// ```
pub struct Named<Tag, T: ?Sized> {
    value: Arc<T>,
    tag: PhantomData<fn() -> Tag>,
}

impl<Tag, T: ?Sized> Named<Tag, T> {
    /// Wraps a value, as the container does for an argument.
    #[must_use]
    pub fn new(value: Arc<T>) -> Self {
        Self { value, tag: PhantomData }
    }

    /// Returns the value without its tag.
    #[must_use]
    pub fn into_inner(self) -> Arc<T> {
        self.value
    }
}

impl<Tag, T: ?Sized> Deref for Named<Tag, T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.value
    }
}

impl<Tag, T: ?Sized> Clone for Named<Tag, T> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.value))
    }
}

impl<Tag, T: ?Sized + fmt::Debug> fmt::Debug for Named<Tag, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<Tag, T: ?Sized + fmt::Display> fmt::Display for Named<Tag, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
