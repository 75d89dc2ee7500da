use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use super::policy::AttemptOutcome;

/// Values that a part passes to the inner parts of a call, beside the request. A value is looked up by its type.
///
/// The context belongs to the call, and is passed in its [`Next`](super::Next): it is not global, and not bound to a
/// task or a thread. So it is kept when the type of the request changes, when another task continues the call, and in
/// each attempt of a retry. Inner parts see the values that outer parts have added; outer parts do not see those of
/// inner parts.
///
/// An empty context costs nothing; each value is one allocation. A look-up compares the values one by one, the newest
/// first: it is meant for a handful of values.
///
/// # When to use
/// For values that concern many parts and no particular request type, such as an id for logs or a tenant. A value that
/// the handler needs should be a field of the request, with [`Chain::adapt`](super::Chain::adapt), so that it cannot be
/// missing.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, Context, Next};
///
/// struct RequestId(u32);
/// async fn identify(request: String, next: Next<String, String>) -> String {
///     next.with(RequestId(7)).run(request).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler = Chain::new().with(identify).to_with_context(|request: String, cx: Context| async move {
///     let id = cx.get::<RequestId>().map(|id| id.0);
///     format!("{request} as {id:?}")
/// });
/// assert_eq!(handler.call("hello".to_owned()).await, "hello as Some(7)");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Context {
    values: Option<Arc<ContextEntry>>,
    /// Set by the policies around this part.
    pub(super) outcome: Option<Arc<AttemptOutcome>>,
}

struct ContextEntry<T: ?Sized = dyn Any + Send + Sync> {
    // Stored beside the value: `type_id()` of the value would be a virtual call.
    id: TypeId,
    name: &'static str,
    around: Option<Arc<ContextEntry>>,
    value: T,
}

impl Context {
    /// Creates an empty context.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: None, outcome: None }
    }

    /// Adds a value. It hides a value of the same type that was added before.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(self, value: T) -> Self {
        let (id, name) = (TypeId::of::<T>(), type_name::<T>());
        let entry = ContextEntry { id, name, around: self.values, value };
        Self { values: Some(Arc::new(entry)), outcome: self.outcome }
    }

    /// Returns the value of type `T` that was added last, if there is one.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        self.entries().find(|entry| entry.id == id)?.value.downcast_ref::<T>()
    }

    /// Returns `true` if the context has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_none()
    }

    fn entries(&self) -> impl Iterator<Item = &ContextEntry> {
        std::iter::successors(self.values.as_deref(), |entry| entry.around.as_deref())
    }
}

/// Frees the nested values in a loop, so that a long context does not overflow the stack.
impl<T: ?Sized> Drop for ContextEntry<T> {
    fn drop(&mut self) {
        let mut next = self.around.take();
        while let Some(mut entry) = next {
            next = Arc::get_mut(&mut entry).and_then(|entry| entry.around.take());
        }
    }
}

/// Lists the types of the values, the newest first.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.entries().map(|entry| format_args!("{}", entry.name).to_string()))
            .finish()
    }
}
