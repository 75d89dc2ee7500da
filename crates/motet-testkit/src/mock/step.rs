use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::state::Maker;

/// The behaviour of one call of a [`MockFn`](super::MockFn).
///
/// Created by the functions of this module: [`ok`], [`err`], [`value`], [`after`], [`pending`], [`panics`], [`call`]
/// and [`on_demand`].
pub struct Step<A, R> {
    /// The name in the history.
    pub(super) label: &'static str,
    pub(super) delay: Duration,
    pub(super) plan: Plan<A, R>,
}

pub(super) enum Plan<A, R> {
    Value(R),
    Pending,
    Panics(String),
    Call(Function<A, R>),
    OnDemand,
}

/// By reference, so that only a step of a function needs `A: Clone`.
type Function<A, R> = Arc<dyn Fn(&A) -> Pin<Box<dyn Future<Output = R> + Send>> + Send + Sync>;

impl<A, R> Step<A, R> {
    fn new(label: &'static str, plan: Plan<A, R>) -> Self {
        Self { label, delay: Duration::ZERO, plan }
    }

    /// Makes the step reusable.
    pub(super) fn repeated(self) -> Maker<A, R>
    where
        A: 'static,
        R: Clone + Send + Sync + 'static,
    {
        let Self { label, delay, plan } = self;
        let again = move |plan| Self { label, delay, plan };
        match plan {
            Plan::Value(value) => Arc::new(move || again(Plan::Value(value.clone()))),
            Plan::Pending => Arc::new(move || again(Plan::Pending)),
            Plan::Panics(text) => Arc::new(move || again(Plan::Panics(text.clone()))),
            Plan::Call(function) => Arc::new(move || again(Plan::Call(Arc::clone(&function)))),
            Plan::OnDemand => Arc::new(move || again(Plan::OnDemand)),
        }
    }
}

impl<A, R> fmt::Debug for Step<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("label", &self.label).field("delay", &self.delay).finish_non_exhaustive()
    }
}

/// Returns `Ok(value)`.
pub fn ok<A, T, E>(value: T) -> Step<A, Result<T, E>> {
    Step::new("ok", Plan::Value(Ok(value)))
}

/// Returns `Err(error)`.
pub fn err<A, T, E>(error: E) -> Step<A, Result<T, E>> {
    Step::new("err", Plan::Value(Err(error)))
}

/// Returns `value`, for functions that do not return a `Result`.
pub fn value<A, R>(value: R) -> Step<A, R> {
    Step::new("value", Plan::Value(value))
}

/// Sleeps on tokio's clock, then runs `step`. With zero it does not sleep, with [`Duration::MAX`] it never wakes.
pub fn after<A, R>(delay: Duration, step: Step<A, R>) -> Step<A, R> {
    Step { delay: step.delay.saturating_add(delay), ..step }
}

/// Never returns, like a peer that hangs.
#[must_use]
pub fn pending<A, R>() -> Step<A, R> {
    Step::new("pending", Plan::Pending)
}

/// Panics with `text`.
pub fn panics<A, R>(text: impl Into<String>) -> Step<A, R> {
    Step::new("panics", Plan::Panics(text.into()))
}

/// Runs an async function on the arguments and returns its result.
///
/// # Examples
/// ```
/// use motet_testkit::MockFn;
/// use motet_testkit::mock::call;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let double = MockFn::<(u32,), u32>::new("double");
/// double.script([call(|(n,)| async move { 2 * n })]).then_repeat_last();
/// assert_eq!(double.call((21,)).await, 42);
/// # }
/// ```
pub fn call<A, R, F, Fut>(function: F) -> Step<A, R>
where
    A: Clone,
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    Step::new("call", Plan::Call(Arc::new(move |args: &A| Box::pin(function(args.clone())))))
}

/// Waits until the test takes the call with [`next_call`](super::MockFn::next_call) and replies.
#[must_use]
pub fn on_demand<A, R>() -> Step<A, R> {
    Step::new("on demand", Plan::OnDemand)
}
