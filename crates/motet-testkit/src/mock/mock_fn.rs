use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use tokio::task::coop;

use super::running::Running;
use super::state::{Maker, Shared};
use super::step::Step;
use super::{Call, PendingCall};

/// An async function from `A` to `R` that answers by script and remembers its calls.
///
/// A handle: clones share script and memory. `A` is what the function takes, usually a tuple, and needs
/// `Debug`, for the history of calls that every failure prints. `R` needs nothing, except where a value is
/// to be given more than once.
///
/// Each call takes one step off the script, in the order in which calls are first polled. A call past
/// the end of the script panics, unless [`then`](Self::then) or [`then_repeat_last`](Self::then_repeat_last)
/// said what comes then.
///
/// Memory: every call is remembered with its arguments until the last handle is gone.
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
    /// Creates a function with an empty script; `name` is what failures call it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { shared: Arc::new(Shared::new(name.into())) }
    }

    /// Appends steps to the script: one for each call to come.
    pub fn script(&self, steps: impl IntoIterator<Item = Step<A, R>>) -> &Self {
        // Collected first, for the iterator is foreign code and must not run under the lock.
        let steps: Vec<_> = steps.into_iter().collect();
        self.shared.lock().steps.extend(steps);
        self
    }

    /// Answers every call past the end of the script with a step that `make` makes.
    ///
    /// It is called anew for each of them, so that `R` need not be `Clone`.
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

    /// Answers every call past the end of the script as the last step does.
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
            panic!("mock `{}` has no step to repeat: script one first", self.shared.name)
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

    /// Calls the function: what the code under test awaits.
    ///
    /// Counted from its first poll on. Takes part in tokio's coop budget, as the I/O it stands for would,
    /// so that a simulator can suspend it even where the answer is ready.
    ///
    /// # Cancel safety
    /// Safe: the call is recorded as [`Cancelled`](super::Outcome::Cancelled). The step it took is spent.
    ///
    /// # Panics
    /// If no step is left, with the history of all calls; if the step is [`panics`](super::panics), or a
    /// [`call`](super::call) that does; if the [`PendingCall`] that stands for this call is dropped without a
    /// reply.
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
                    "mock `{}` was called with {args:?} when its script was at its end: script one more \
                     step, or say what comes then with `then` or `then_repeat_last`\n{}",
                    self.shared.name,
                    self.shared.history()
                )
            }
        }
    }

    /// Waits for a call whose step is [`on_demand`](super::on_demand), and takes it, to be answered by the
    /// test.
    ///
    /// Calls come in the order in which they were made; one that was dropped meanwhile is skipped. Waits for
    /// ever if none comes.
    ///
    /// # Cancel safety
    /// Safe: a call is taken only by the poll that returns it.
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
        // `Notify` takes no part in the coop budget by itself.
        coop::consume_budget().await;
        loop {
            // Registered before the look at the queue: of two calls that arrive between look and wait, a
            // `Notify` without waiters remembers one only.
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

    /// Returns the highest number of calls that ever ran at once.
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
