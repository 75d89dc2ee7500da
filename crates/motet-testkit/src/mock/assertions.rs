use std::fmt;

use super::{MockFn, Outcome};

/// Assertions about the calls. Each failure prints the history of all calls.
impl<A: fmt::Debug, R> MockFn<A, R> {
    /// Asserts that there were exactly `expected` calls.
    ///
    /// # Panics
    /// If there were more or fewer.
    #[track_caller]
    pub fn assert_calls(&self, expected: usize) {
        let calls = self.calls().len();
        if calls != expected {
            self.fail(format_args!("was called {calls} times, not {expected}"));
        }
    }

    /// Asserts that each step of the script was used by a call.
    ///
    /// Steps that [`then`](Self::then) or [`then_repeat_last`](Self::then_repeat_last) add after the script do not
    /// count.
    ///
    /// # Panics
    /// If steps are unused.
    #[track_caller]
    pub fn assert_exhausted(&self) {
        let left = self.shared.lock().steps.len();
        if left > 0 {
            self.fail(format_args!("has {left} unused steps"));
        }
    }

    /// Asserts that the calls had these arguments, in this order, and that there were no others.
    ///
    /// With one element it is `assert_called_once_with` of Python: `assert_called_with(&[(7,)])`.
    ///
    /// # Panics
    /// If they differ.
    #[track_caller]
    pub fn assert_called_with(&self, expected: &[A])
    where
        A: PartialEq,
    {
        let calls = self.calls();
        for (at, (call, expected)) in calls.iter().zip(expected).enumerate() {
            if call.args() != expected {
                self.fail(format_args!("had {:?} in call {}, not {expected:?}", call.args(), at + 1));
            }
        }
        let (calls, expected) = (calls.len(), expected.len());
        if calls != expected {
            self.fail(format_args!("was called {calls} times, not {expected}"));
        }
    }

    /// Asserts that the maximum number of concurrent calls was exactly `expected`.
    ///
    /// Exactly, so that a limit of four also fails the test if it admits one call at a time. For an upper limit only,
    /// compare [`max_concurrent`](Self::max_concurrent).
    ///
    /// # Panics
    /// If it was higher or lower.
    #[track_caller]
    pub fn assert_max_concurrent(&self, expected: usize) {
        let most = self.max_concurrent();
        if most != expected {
            self.fail(format_args!("had {most} concurrent calls, not {expected}"));
        }
    }

    /// Asserts that exactly `expected` calls were dropped before they completed.
    ///
    /// # Panics
    /// If there were more or fewer.
    #[track_caller]
    pub fn assert_cancelled(&self, expected: usize) {
        let cancelled = self.calls().iter().filter(|call| call.outcome() == Outcome::Cancelled).count();
        if cancelled != expected {
            self.fail(format_args!("was cancelled in {cancelled} calls, not {expected}"));
        }
    }

    #[track_caller]
    fn fail(&self, what: fmt::Arguments<'_>) -> ! {
        panic!(
            "mock `{}` {what}
{}",
            self.shared.name,
            self.shared.history()
        )
    }
}
