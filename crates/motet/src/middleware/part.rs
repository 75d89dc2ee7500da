use std::any::type_name;
use std::mem::needs_drop;
use std::sync::Arc;

use super::{BoxFuture, Next, PartDescription};
use crate::task::Name;

/// Stands between callers and a handler: sees the request, the answer, and decides whether and how often what is
/// inside is run.
///
/// Every `async fn(request, next) -> answer` is one, and so is every closure of that shape. By hand it is implemented
/// for what has settings and a name of its own.
///
/// # Cancel safety
/// The future is dropped where it is when the caller leaves, and with it what is inside. What a part takes it should
/// hold as a guard.
///
/// # Examples
/// A part with settings, which forwards without a future of its own:
/// ```
/// use motet::middleware::{BoxFuture, Chain, Middleware, Next};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct Count(AtomicU64);
///
/// impl<Q: 'static, R: 'static> Middleware<Q, R> for Count {
///     fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         next.run(request)
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let handler = Chain::new().with(Count::default()).to(|n: u32| async move { n + 1 });
/// assert_eq!(handler.call(1).await, 2);
/// assert_eq!(handler.describe().to_string(), "Count > closure");
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "this is no middleware for requests `{Q}` and answers `{R}`",
    label = "no middleware",
    note = "a middleware is `async fn(request: Q, next: Next<Q, R>) -> R`, or a closure of that shape whose argument \
            types are written out: `|request: Q, next: Next<_, _>| async move {{ next.run(request).await }}`",
    note = "its `Q` and `R` are those of the chain: `Chain::adapt` changes them",
    note = "its future has to be `Send`: nothing like `Rc` or a lock guard may live across an `.await`",
    note = "a policy, as `timeout` and `retry` are, has to make an answer when it ends a call: `R` is a `Result<T, E>` with \
            `E: From<PolicyError>`, or the part says how, by `.or_error(..)` or `.or_answer(..)`",
    note = "with a state it is `with_state(state, async fn(state, request, next) -> R)`"
)]
pub trait Middleware<Q: 'static, R: 'static>: Send + Sync + 'static {
    /// Answers a request, by [`Next::run`] or otherwise.
    ///
    /// Called when the future of what is outside is polled; what it does besides making a future it does there.
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R>;

    /// Gives the name that [`Chain::describe`](super::Chain::describe) shows: of the type or function, by itself.
    fn name(&self) -> Name {
        Name::from(short::<Self>())
    }

    /// Says how it is set, for [`Chain::describe`](super::Chain::describe).
    fn settings(&self) -> String {
        String::new()
    }

    #[doc(hidden)]
    fn into_part(self) -> Part<Q, R>
    where
        Self: Sized,
    {
        Part::shared(self)
    }
}

impl<Q: 'static, R: 'static, F, Fut> Middleware<Q, R> for F
where
    F: Fn(Q, Next<Q, R>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(self(request, next))
    }

    fn into_part(self) -> Part<Q, R> {
        if size_of::<F>() > 0 || needs_drop::<F>() {
            return Part::shared(self);
        }
        let description = PartDescription { name: self.name(), settings: self.settings() };
        // A function, or a closure that has captured nothing: it has no size, so nothing is allocated, or lost.
        Part { description, run: Run::Free(Box::leak(Box::new(self))), policy: false }
    }
}

/// A [`Middleware`] as a chain keeps it.
pub struct Part<Q: 'static, R: 'static> {
    pub(super) description: PartDescription,
    pub(super) run: Run<Q, R>,
    /// Whether it tells those outside when it ends a call by itself.
    pub(super) policy: bool,
}

pub(super) enum Run<Q: 'static, R: 'static> {
    /// It has nothing of its own.
    Free(&'static dyn Free<Q, R>),
    Shared(Arc<dyn Middleware<Q, R>>),
}

/// A middleware that can be called while its chain is moved along.
pub(super) trait Free<Q: 'static, R: 'static>: Send + Sync {
    fn call(&self, request: Q, next: Next<Q, R>) -> BoxFuture<R>;
}

impl<Q: 'static, R: 'static, F, Fut> Free<Q, R> for F
where
    F: Fn(Q, Next<Q, R>) -> Fut + Send + Sync,
    Fut: Future<Output = R> + Send + 'static,
{
    #[inline]
    fn call(&self, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(self(request, next))
    }
}

impl<Q: 'static, R: 'static> Part<Q, R> {
    pub(super) fn shared(middleware: impl Middleware<Q, R>) -> Self {
        Self::of(Arc::new(middleware))
    }

    pub(super) fn of(middleware: Arc<impl Middleware<Q, R>>) -> Self {
        let description = PartDescription { name: middleware.name(), settings: middleware.settings() };
        Self { description, run: Run::Shared(middleware), policy: false }
    }
}

impl<Q: 'static, R: 'static> Clone for Part<Q, R> {
    fn clone(&self) -> Self {
        let run = match &self.run {
            Run::Free(part) => Run::Free(*part),
            Run::Shared(part) => Run::Shared(Arc::clone(part)),
        };
        Self { description: self.description.clone(), run, policy: self.policy }
    }
}

impl<Q: 'static, R: 'static> std::fmt::Debug for Part<Q, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({})", self.description)
    }
}

/// The name of a type or function, without its path and its arguments.
pub(super) fn short<T: ?Sized>() -> &'static str {
    let whole = type_name::<T>();
    let path = whole.split_once('<').map_or(whole, |(path, _)| path);
    match path.rsplit("::").next() {
        Some("{{closure}}") => "closure",
        Some(name) if !name.is_empty() => name,
        _ => whole,
    }
}
