//! Statements in the code under test: `always!`, `sometimes!`, fault points, planted bugs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use motet::sim::mutants;
use motet_testkit::sim::{Cause, Faults, sim};
use tokio::time::Instant;

use super::failure;

#[test]
fn statement_that_does_not_hold_fails_the_run_at_once() {
    let failure = failure(
        sim(|| async {
            motet::always!(true, "holds");
            motet::always!(1 > 2, "does not hold");
            // The run ends although the code goes on.
            std::future::pending::<()>().await;
        })
        .seeds(1)
        .check(),
        |cause| matches!(cause, Cause::Broken { text: "does not hold", site } if site.file().ends_with("statements.rs")),
    );
    assert_eq!(failure.virtual_time(), Some(Duration::ZERO));
}

#[test]
fn condition_that_was_never_true_fails_the_sweep() {
    let coin = || motet::sim::choice(NonZeroUsize::new(2).unwrap()) == Some(1);
    failure(
        sim(|| async {
            motet::sometimes!(coin(), "heads");
            motet::sometimes!(false, "on its edge");
        })
        .seeds(50)
        .check(),
        |cause| matches!(cause, Cause::NeverTrue { texts } if texts == &["on its edge"]),
    );
}

#[test]
fn path_that_must_be_seen_and_is_not_fails_the_sweep() {
    let body = || async {
        let path = motet::sim::choice(NonZeroUsize::new(2).unwrap());
        motet::sometimes!(path == Some(1), "rolled back");
        if path == Some(2) {
            motet::sometimes!(true, "rolled forward");
        }
    };
    let sweep = sim(body).seeds(50).must_see("rolled back").run();
    let rolled_back = sweep.sometimes()["rolled back"];
    assert!((1..sweep.runs()).contains(&rolled_back), "{rolled_back}");
    failure(
        sim(body).seeds(50).must_see("rolled forward").check(),
        |cause| matches!(cause, Cause::NeverTrue { texts } if texts == &["rolled forward"]),
    );
}

#[test]
fn conditions_are_not_evaluated_outside_a_simulation() {
    let evaluated = || -> bool { unreachable!("outside a simulation") };
    motet::always!(evaluated(), "never asked");
    motet::sometimes!(evaluated(), "never asked");
    assert!(!motet::fault!("outside").fails());
    assert_eq!(motet::sim::choice(NonZeroUsize::MIN), None);
}

/// The effect of a hundred passes through two fault points in each run: failures, and milliseconds of delay.
fn faults_of_runs(faults: Faults) -> Vec<BTreeMap<&'static str, (u32, u128)>> {
    let runs = RefCell::new(Vec::new());
    sim(|| async {
        let mut seen = BTreeMap::new();
        for _ in 0..100 {
            for name in ["connect", "send"] {
                let start = Instant::now();
                let failed = match name {
                    "connect" => motet::fault!("connect").await,
                    _ => motet::fault!("send").await,
                };
                let (failures, delay) = seen.entry(name).or_insert((0, 0));
                *failures += u32::from(failed);
                *delay += start.elapsed().as_millis();
            }
        }
        runs.borrow_mut().push(seen);
    })
    .faults(faults)
    .seeds(60)
    .run();
    runs.into_inner()
}

#[test]
fn swarm_enables_each_subset_of_the_fault_points() {
    let enabled: BTreeSet<_> = faults_of_runs(Faults::Swarm)
        .into_iter()
        .map(|seen| {
            let enabled = |name| match seen[name] {
                (0, 0) => false,
                (failures, delay) => {
                    assert!((1..30).contains(&failures) && delay > 0, "{failures} failures, {delay} ms");
                    true
                }
            };
            (enabled("connect"), enabled("send"))
        })
        .collect();
    // Every subset of the two points.
    assert_eq!(enabled.len(), 4, "{enabled:?}");
}

#[test]
fn fault_points_that_are_off_never_fail() {
    for seen in faults_of_runs(Faults::Off) {
        assert!(seen.values().all(|(failures, _)| *failures == 0), "{seen:?}");
    }
}

#[test]
fn planted_bug_acts_only_in_the_run_that_enables_it() {
    let body = || async { assert!(!motet::mutant!("test.planted"), "the planted bug") };
    sim(body).seeds(2).run();
    failure(
        sim(body).mutant("test.planted").seeds(2).check(),
        |cause| matches!(cause, Cause::Panicked { message, .. } if message == "the planted bug"),
    );
    sim(body).mutant("test.another").seeds(2).run();
    assert!(!motet::mutant!("test.planted"), "it is left on");
}

#[test]
fn planted_bug_stays_on_until_its_last_guard_is_dropped() {
    let (one, other) = (mutants::enable("test.guarded"), mutants::enable("test.guarded"));
    drop(one);
    assert!(motet::mutant!("test.guarded"));
    assert!(std::thread::spawn(|| !motet::mutant!("test.guarded")).join().unwrap(), "on another thread");
    drop(other);
    assert!(!motet::mutant!("test.guarded"));
}
