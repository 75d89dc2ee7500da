//! Tests that do not do the same thing twice.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use motet_testkit::sim::{Cause, SelfCheck, sim};
use tokio::time::sleep;

use super::{failure, work};

#[test]
fn state_shared_between_runs_fails_the_self_check() {
    let counter = AtomicU64::new(0);
    let body = || async {
        let number = counter.fetch_add(1, Relaxed);
        work("sleeper", sleep(Duration::from_millis(number % 2))).await.unwrap();
    };
    let failure =
        failure(sim(body).seeds(5).check(), |cause| matches!(cause, Cause::Nondeterministic { .. }));
    let report = failure.to_string();
    assert!(report.contains("two runs of the seed differ at event"), "{report}");
    assert!(report.contains("a thread, `blocking`, a `select!`"), "{report}");
    counter.store(0, Relaxed);
    sim(body).seeds(5).self_check(SelfCheck::Off).run();
}

#[test]
fn task_name_that_changes_between_runs_fails_the_self_check() {
    let counter = AtomicU64::new(0);
    let body = || async {
        let name = format!("task {}", counter.fetch_add(1, Relaxed));
        work(&name, async {}).await.unwrap();
    };
    failure(sim(body).seeds(1).check(), |cause| {
        matches!(cause, Cause::Nondeterministic { first: Some(first), second: Some(second), .. }
            if first.contains("task 0") && second.contains("task 1"))
    });
}

#[test]
fn report_warns_that_a_failure_does_not_repeat() {
    let counter = AtomicU64::new(0);
    let body = || async {
        assert!(counter.fetch_add(1, Relaxed) > 0, "only the first time");
    };
    let checked = sim(body).seeds(1).self_check(SelfCheck::Off).check();
    let failure = failure(checked, |cause| matches!(cause, Cause::Panicked { .. }));
    assert!(failure.to_string().contains("a replay possibly does not fail"), "{failure}");
}

#[test]
fn report_warns_if_the_message_of_a_failure_changes() {
    let counter = AtomicU64::new(0);
    let body = || async { panic!("number {}", counter.fetch_add(1, Relaxed)) };
    let failure = failure(sim(body).seeds(1).check(), |cause| matches!(cause, Cause::Panicked { .. }));
    assert!(failure.to_string().contains("a replay possibly does not fail"), "{failure}");
}

#[test]
fn failing_seed_fails_with_the_same_trace_again() {
    let body = || async {
        let number = motet::sim::choice(std::num::NonZeroUsize::MAX).unwrap();
        let task = work("chooser", async { motet::sim::choice(std::num::NonZeroUsize::MAX).unwrap() });
        let other = task.await.unwrap();
        motet::always!(number % 10 < 9, "nine in ten");
        motet::sim::op("test.drawn");
        assert_ne!(number, other);
    };
    let broken = |cause: &Cause| matches!(cause, Cause::Broken { text: "nine in ten", .. });
    let first = failure(sim(body).seeds(100).check(), broken);
    let seed = first.seed().unwrap();
    let again = failure(sim(body).seeds(seed..seed + 1).check(), broken);
    assert_eq!(first.trace(), again.trace());
    let ends =
        first.trace().iter().filter(|line| line.ends_with("completed") || line.ends_with("dropped")).count();
    // One for each task, although a hook that is dropped after its task completed could report twice.
    assert_eq!(ends, 2, "{first}");
    assert!(!first.to_string().contains("possibly does not fail"), "{first}");
}
