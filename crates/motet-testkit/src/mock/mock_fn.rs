use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use tokio::task::coop;

use super::running::Running;
use super::state::{Maker, Shared};
use super::step::Step;
use super::{Call, PendingCall};

/// An async function from `A` to `R` that answers by a script and records its calls.
///
/// It is a handle: clones share script and records. `A` is the type of the arguments, usually a tuple; it needs `Debug`
/// for the history of calls that every failure prints. `R` needs nothing, unless a value is returned more than once.
///
/// Each call uses one step of the script, in the order in which calls are first polled. A call after the end of the
/// script panics, unless [`then`](Self::then) or [`then_repeat_last`](Self::then_repeat_last) define its answer.
///
/// Every call is recorded with its arguments until the last handle is dropped.
///
/// # Examples
/// ```
/// use motet_testkit::MockFn;
/// use motet_testkit::mock::value;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let next_id = MockFn::<(), u32>::new("next_id");
/// next_id.script([value(1), value(2)]);
///
/// assert_eq!(next_id.call(()).await, 1);
/// assert_eq!(next_id.call(()).await, 2);
/// next_id.assert_calls(2);
/// # }
/// ```
pub struct MockFn<A, R> {
    pub(super) shared: Arc<Shared<A, R>>,
}

impl<A, R> MockFn<A, R> {
    /// Creates a function with an empty script; `name` is its name in failures.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { shared: Arc::new(Shared::new(name.into())) }
    }

    /// Appends steps to the script: one for each future call.
    pub fn script(&self, steps: impl IntoIterator<Item = Step<A, R>>) -> &Self {
        // Collected first: the iterator is foreign code and must not run under the lock.
        let steps: Vec<_> = steps.into_iter().collect();
        self.shared.lock().steps.extend(steps);
        self
    }

    /// Answers every call after the end of the script with a step that `make` creates.
    ///
    /// `make` is called for each of these calls, so `R` need not be `Clone`.
    ///
    /// # Examples
    /// ```
    /// use motet_testkit::MockFn;
    /// use motet_testkit::mock::{call, err, on_demand};
    ///
    /// let save = MockFn::<(u64,), Result<(), std::io::Error>>::new("save");
    /// save.script([err(std::io::ErrorKind::TimedOut.into())]).then(|| call(async |_| Ok(())));
    ///
    /// let ask = MockFn::<(u64,), bool>::new("ask");
    /// ask.then(on_demand);
    /// ```
    pub fn then(&self, make: impl Fn() -> Step<A, R> + Send + Sync + 'static) {
        self.end_with(Arc::new(make));
    }

    /// Answers every call after the end of the script like the last step.
    ///
    /// # Panics
    /// If the script is empty: there is no last step.
    #[track_caller]
    pub fn then_repeat_last(&self)
    where
        A: 'static,
        R: Clone + Send + Sync + 'static,
    {
        let last = self.shared.lock().steps.pop_back();
        let Some(last) = last else {
            panic!("mock `{}` has no step to repeat: add one to the script first", self.shared.name)
        };
        let make = last.repeated();
        let again = make();
        self.shared.lock().steps.push_back(again);
        self.end_with(make);
    }

    fn end_with(&self, make: Maker<A, R>) {
        let former = self.shared.lock().then.replace(make);
        // A foreign closure: its drop must not run under the lock either.
        drop(former);
    }

    /// Calls the function. The code under test awaits this.
    ///
    /// The call counts from its first poll. It takes part in tokio's coop budget, like the I/O it stands for, so that a
    /// simulator can suspend it even if the answer is ready.
    ///
    /// # Cancel safety
    /// Safe: the call is recorded as [`Cancelled`](super::Outcome::Cancelled). Its step is used.
    ///
    /// # Panics
    /// If no step is left, with the history of all calls; if the step is [`panics`](super::panics), or a
    /// [`call`](super::call) that panics; if the [`PendingCall`] of this call is dropped without a reply.
    pub async fn call(&self, args: A) -> R
    where
        A: fmt::Debug,
    {
        let args = Arc::new(args);
        let (running, step) = Running::begin(&self.shared, &args);
        match step {
            Some(step) => running.answer(step, &args).await,
            None => {
                running.panicked();
                panic!(
                    "mock `{}` was called with {args:?} after the end of its script: add a step, or \
                     define further answers with `then` or `then_repeat_last`\n{}",
                    self.shared.name,
                    self.shared.history()
                )
            }
        }
    }

    /// Waits for a call whose step is [`on_demand`](super::on_demand), and returns it, to be answered by the test.
    ///
    /// Calls are returned in the order in which they were made; a call that has been dropped is skipped. Without a call
    /// it waits without end.
    ///
    /// # Cancel safety
    /// Safe: only the poll that returns a call takes it.
    ///
    /// # Examples
    /// ```
    /// use motet_testkit::MockFn;
    /// use motet_testkit::mock::on_demand;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let ask = MockFn::<(&'static str,), bool>::new("ask");
    /// ask.then(on_demand);
    ///
    /// let test = async {
    ///     let call = ask.next_call().await;
    ///     assert_eq!(call.args(), &("ready?",));
    ///     call.reply(true);
    /// };
    /// let (answer, ()) = tokio::join!(ask.call(("ready?",)), test);
    /// assert!(answer);
    /// # }
    /// ```
    pub async fn next_call(&self) -> PendingCall<A, R> {
        // `Notify` does not take part in the coop budget.
        coop::consume_budget().await;
        loop {
            // Registered before the queue is checked: of two calls that arrive between the check and the wait, a
            // `Notify` without waiters remembers one.
            let mut arrived = pin!(self.shared.arrived.notified());
            arrived.as_mut().enable();
            if let Some(call) = self.shared.next_asked() {
                return call;
            }
            arrived.await;
        }
    }

    /// Returns all calls so far, in the order in which they were made.
    #[must_use]
    pub fn calls(&self) -> Vec<Call<A>> {
        self.shared.lock().calls.clone()
    }

    /// Returns the maximum number of concurrent calls.
    #[must_use]
    pub fn max_concurrent(&self) -> usize {
        self.shared.lock().max_running
    }
}

impl<A, R> Clone for MockFn<A, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<A: fmt::Debug, R> fmt::Debug for MockFn<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockFn")
            .field("name", &self.shared.name)
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}
