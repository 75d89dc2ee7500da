//! Models of the atomics of the rate limiter and of the breaker under every thread interleaving, with loom: see
//! `src/task/models.rs`.

use std::process::Command;

use loom::sync::Arc;
use loom::thread;

use super::breaker::published::PublishedState;
use super::breaker::word::{CallMode, StateWord, SuccessMode};
use super::rate::gcra::Gcra;
use crate::sim::mutants;

/// The environment variable that names the planted bug of a probe process.
const PLANTED: &str = "MOTET_PLANTED_RESILIENCE";

#[test]
fn rate_limit_never_gives_two_threads_the_same_cell() {
    let planted = std::env::var(PLANTED).ok();
    loom::model(move || {
        let gcra = Arc::new(Gcra::new(10, 20));
        let takes = |cost: u64| {
            let (gcra, planted) = (Arc::clone(&gcra), planted.clone());
            thread::spawn(move || {
                let _planted = planted.map(mutants::enable);
                gcra.take(cost, 100).is_ok()
            })
        };
        let (one, two) = (takes(10), takes(20));
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        assert!(one != two, "of two cells, one thread took one: {one}, the other two: {two}");
        assert_eq!(gcra.available(100), u64::from(one));
    });
}

/// The breaker opens for a long time, is reset, and opens for a short time: a reader that sees it open sees the time of
/// that opening.
#[test]
fn reader_after_a_breaker_reset_sees_no_earlier_open_until() {
    let planted = std::env::var(PLANTED).ok();
    loom::model(move || {
        let published =
            Arc::new(PublishedState::new(StateWord::new(0, CallMode::Admitted, SuccessMode::Settled)));
        let writes = {
            let (published, planted) = (Arc::clone(&published), planted.clone());
            thread::spawn(move || {
                let _planted = planted.map(mutants::enable);
                published
                    .publish(StateWord::new(1, CallMode::RejectedUntil, SuccessMode::Recorded), || 1_000);
                published.publish(StateWord::new(2, CallMode::Admitted, SuccessMode::Settled), || {
                    unreachable!("the breaker is closed")
                });
                published.publish(StateWord::new(3, CallMode::RejectedUntil, SuccessMode::Recorded), || 20);
            })
        };
        let reads = {
            let published = Arc::clone(&published);
            thread::spawn(move || (published.word().generation() >= 2, published.open_until()))
        };
        let (was_reset, until) = reads.join().unwrap();
        // A reader may see a time that is newer than its word, but never one that keeps calls out for longer.
        let known: &[_] = if was_reset { &[None, Some(20)] } else { &[None, Some(1_000), Some(20)] };
        assert!(known.contains(&until), "open until {until:?}, and reset before that: {was_reset}");
        writes.join().unwrap();
        assert_eq!(published.open_until(), Some(20));
    });
}

/// Successes that are counted while a failure is recorded, and while the breaker is reset: each counts once, in its
/// generation.
#[test]
fn each_success_of_a_breaker_counts_once_in_its_generation() {
    let planted = std::env::var(PLANTED).ok();
    loom::model(move || {
        let closed = |generation, success| StateWord::new(generation, CallMode::Admitted, success);
        let published = Arc::new(PublishedState::new(closed(0, SuccessMode::Counted)));
        let succeeds = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                u32::from(published.count_success(0)) + u32::from(published.count_success(0))
            })
        };
        let records = {
            let (published, planted) = (Arc::clone(&published), planted.clone());
            thread::spawn(move || {
                let _planted = planted.map(mutants::enable);
                let unused = || unreachable!("the breaker is closed");
                let first = published.take_successes();
                published.publish(closed(0, SuccessMode::Recorded), unused);
                let second = published.take_successes();
                published.publish(closed(0, SuccessMode::Counted), unused);
                first + second
            })
        };
        let (counted, taken) = (succeeds.join().unwrap(), records.join().unwrap());
        assert_eq!(taken + published.take_successes(), counted);
        published.publish(closed(1, SuccessMode::Counted), || unreachable!("the breaker is closed"));
        assert!(!published.count_success(0), "a success from before the reset counts");
        assert!(published.count_success(1));
    });
}

#[test]
fn planted_bug_of_a_lost_update_is_found() {
    finds("rate.lost_update", "rate_limit_never_gives_two_threads_the_same_cell");
}

#[test]
fn planted_bug_of_a_time_published_late_is_found() {
    finds("breaker.publish_late", "reader_after_a_breaker_reset_sees_no_earlier_open_until");
}

#[test]
fn planted_bug_of_a_lost_success_is_found() {
    finds("breaker.forget_successes", "each_success_of_a_breaker_counts_once_in_its_generation");
}

fn finds(planted: &str, model: &str) {
    let probe = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("resilience::models::{model}")])
        .env(PLANTED, planted)
        .output()
        .unwrap();
    assert!(!probe.status.success(), "no model finds `{planted}`");
}
