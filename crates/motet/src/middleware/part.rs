use std::any::type_name;
use std::mem::needs_drop;
use std::sync::Arc;

use super::description::PartDescription;
use super::{BoxFuture, Next};
use crate::task::Name;

/// A part of a chain: it receives a request and [`Next`], and decides whether and how often the inner parts are called.
///
/// Every `async fn(request, next) -> answer` is a middleware, and so is every closure of that shape. Implement the
/// trait for a part with settings and a name of its own.
///
/// # Cancel safety
/// When the caller leaves, the future is dropped at its current await, together with the inner parts. A part should
/// hold what it acquires in guards.
///
/// # Examples
/// A part with state, which forwards the request without a future of its own:
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
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler = Chain::new().with(Count::default()).to(|n: u32| async move { n + 1 });
/// assert_eq!(handler.call(1).await, 2);
/// assert_eq!(handler.describe().to_string(), "Count > closure");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "this value is not a middleware for requests `{Q}` and answers `{R}`",
    label = "not a middleware",
    note = "a middleware is `async fn(request: Q, next: Next<Q, R>) -> R`, or a closure of that shape whose argument \
            types are written out: `|request: Q, next: Next<_, _>| async move {{ next.run(request).await }}`",
    note = "its `Q` and `R` are those of the chain: `Chain::adapt` changes them",
    note = "its future has to be `Send`: no `Rc` or lock guard may be held across an `.await`",
    note = "a policy such as `timeout` or `retry` has to create an answer when it ends a call: `R` is a `Result<T, E>` with \
            `E: From<PolicyError>`, or the part is given a function by `.or_error(..)` or `.or_answer(..)`",
    note = "a function with state is added by `with_state(state, async fn(state, request, next) -> R)`"
)]
pub trait Middleware<Q: 'static, R: 'static>: Send + Sync + 'static {
    /// Answers a request, with [`Next::run`] or without.
    ///
    /// Called while the future of the outer part is polled. Code outside of the returned future runs during that poll.
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R>;

    /// The name that [`Chain::describe`](super::Chain::describe) shows; by default the name of the type or function.
    fn name(&self) -> Name {
        Name::from(short::<Self>())
    }

    /// The settings that [`Chain::describe`](super::Chain::describe) shows.
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
        // A function, or a closure that captures nothing, has size zero: the leaked box allocates nothing.
        let call: &'static PartFn<Q, R> = Box::leak(Box::new(move |request: Q, next: Next<Q, R>| {
            let answer: BoxFuture<R> = Box::pin(self(request, next));
            answer
        }));
        Part { description, run: PartRun::Stateless(call), policy: false }
    }
}

/// A [`Middleware`] in the form in which a chain stores it.
#[allow(unnameable_types, reason = "between a middleware and its chain")]
pub struct Part<Q: 'static, R: 'static> {
    pub(super) description: PartDescription,
    pub(super) run: PartRun<Q, R>,
    /// `true` for a policy, which reports to outer policies when it ends a call.
    pub(super) policy: bool,
}

pub(super) enum PartRun<Q: 'static, R: 'static> {
    /// A function without state, which is called by reference while its chain is moved into the call.
    Stateless(&'static PartFn<Q, R>),
    Shared(Arc<dyn Middleware<Q, R>>),
}

type PartFn<Q, R> = dyn Fn(Q, Next<Q, R>) -> BoxFuture<R> + Send + Sync;

impl<Q: 'static, R: 'static> Part<Q, R> {
    pub(super) fn shared(middleware: impl Middleware<Q, R>) -> Self {
        Self::of(Arc::new(middleware))
    }

    pub(super) fn of(middleware: Arc<impl Middleware<Q, R>>) -> Self {
        let description = PartDescription { name: middleware.name(), settings: middleware.settings() };
        Self { description, run: PartRun::Shared(middleware), policy: false }
    }
}

impl<Q: 'static, R: 'static> Clone for Part<Q, R> {
    fn clone(&self) -> Self {
        let run = match &self.run {
            PartRun::Stateless(part) => PartRun::Stateless(*part),
            PartRun::Shared(part) => PartRun::Shared(Arc::clone(part)),
        };
        Self { description: self.description.clone(), run, policy: self.policy }
    }
}

impl<Q: 'static, R: 'static> std::fmt::Debug for Part<Q, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({})", self.description)
    }
}

/// Returns the name of a type or function, without its path and its type arguments.
pub(super) fn short<T: ?Sized>() -> &'static str {
    let whole = type_name::<T>();
    let path = whole.split_once('<').map_or(whole, |(path, _)| path);
    match path.rsplit("::").next() {
        Some("{{closure}}") => "closure",
        Some(name) if !name.is_empty() => name,
        _ => whole,
    }
}
