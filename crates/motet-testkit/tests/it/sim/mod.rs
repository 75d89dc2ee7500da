//! Simulations: the faults they find, and their reports.

mod chance;
mod endings;
mod interleaving;
mod replay;
mod self_check;
mod sites;
mod statements;

use std::panic::Location;
use std::pin::Pin;

use motet::sim::{PollKind, TaskHook};
use motet_testkit::sim::{Cause, Failure};
use tokio::task::JoinHandle;

/// Spawns with a hook, as the library does; without a scope, so that tests can leave tasks behind.
#[track_caller]
fn spawn<F>(name: &str, kind: PollKind, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut hook = TaskHook::new(name, Location::caller(), kind);
    let mut future: Pin<Box<F>> = Box::pin(future);
    #[expect(clippy::disallowed_methods, reason = "stands in for the one place that spawns")]
    tokio::spawn(std::future::poll_fn(move |cx| hook.poll(cx, |cx| future.as_mut().poll(cx))))
}

#[track_caller]
fn work<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn(name, PollKind::Work, future)
}

/// The failure of a sweep that must fail, for this cause.
#[track_caller]
fn failure(
    checked: Result<motet_testkit::sim::Sweep, Failure>,
    expected: impl Fn(&Cause) -> bool,
) -> Failure {
    let failure = checked.expect_err("the sweep passes");
    assert!(expected(failure.cause()), "{failure}");
    failure
}
