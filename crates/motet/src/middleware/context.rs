use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use super::policy::Mark;

/// What parts tell those further inside about a call: values by their types, beside the request.
///
/// It travels with the call, in its [`Next`](super::Next): no global, nothing bound to a task or a thread. So it is
/// there after a change of the request's type, in a task that is handed it, and in each attempt of a retry. It grows
/// inward only: what a part adds is seen by what is inside of it, and by nobody outside or beside.
///
/// Empty, it costs nothing; a value is one allocation. A look-up goes through the values, the newest first: it is made
/// for a handful.
///
/// # When to use
/// For what concerns many parts and no request in particular: an id to log, a tenant. What a handler cannot do without
/// belongs into the request's type, by [`Chain::adapt`](super::Chain::adapt): there it cannot be missing.
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
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let handler = Chain::new().with(identify).to_with_context(|request: String, cx: Context| async move {
///     let id = cx.get::<RequestId>().map(|id| id.0);
///     format!("{request} as {id:?}")
/// });
/// assert_eq!(handler.call("hello".to_owned()).await, "hello as Some(7)");
/// # });
/// ```
#[derive(Clone, Default)]
pub struct Context {
    values: Option<Arc<Entry>>,
    /// Belongs to the policies around.
    pub(super) mark: Option<Arc<Mark>>,
}

struct Entry<T: ?Sized = dyn Any + Send + Sync> {
    // Kept beside the value, whose own answer is a call through a pointer.
    id: TypeId,
    name: &'static str,
    around: Option<Arc<Entry>>,
    value: T,
}

impl Context {
    /// Makes an empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: None, mark: None }
    }

    /// Adds a value; one of the same type that is there already is hidden by it.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(self, value: T) -> Self {
        let (id, name) = (TypeId::of::<T>(), type_name::<T>());
        let entry = Entry { id, name, around: self.values, value };
        Self { values: Some(Arc::new(entry)), mark: self.mark }
    }

    /// Gives the value of this type, if somebody further out has added one.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        self.entries().find(|entry| entry.id == id)?.value.downcast_ref::<T>()
    }

    /// Asks whether nobody has added anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_none()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        std::iter::successors(self.values.as_deref(), |entry| entry.around.as_deref())
    }
}

/// Values one inside the other are freed one after the other: however many there are, no stack runs out.
impl<T: ?Sized> Drop for Entry<T> {
    fn drop(&mut self) {
        let mut next = self.around.take();
        while let Some(mut entry) = next {
            next = Arc::get_mut(&mut entry).and_then(|entry| entry.around.take());
        }
    }
}

/// Names the types of the values, the newest first.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.entries().map(|entry| format_args!("{}", entry.name).to_string()))
            .finish()
    }
}
