//! Every setting that takes a duration, with odd ones: zero, one nanosecond, centuries, and the longest, which is never.

#[path = "../../../motet/tests/it/durations/scan.rs"]
mod scan;
#[path = "../../../motet/tests/it/durations/table.rs"]
mod table;

use std::future::pending;
use std::thread;
use std::time::Duration;

use motet_testkit::mock::{after, value};
use motet_testkit::{CancelEverywhere, MockFn, sim};
use scan::check_complete;
use table::{Effect, LIMIT, Odd, Row, check};
use tokio::time::sleep;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// This only reports a duration.
const REPORTS: [&str; 1] = ["sim/failure.rs Cause::Deadlock"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn rows() -> Vec<Row> {
    vec![
        Row { setting: "mock/step.rs after", means: LIMIT, uses: delays },
        Row { setting: "cancel/driver.rs virtual_limit", means: LIMIT, uses: cancels },
        Row { setting: "sim/builder.rs virtual_limit", means: LIMIT, uses: simulates },
        // What it allows is a run to its end. One that takes no time at all aborts every run.
        Row {
            setting: "sim/builder.rs poll_limit",
            means: [Odd::Panics, Odd::AtOnce, Odd::AtOnce, Odd::AtOnce],
            uses: polls,
        },
    ]
}

#[test]
fn every_duration_setting_has_a_row_in_the_test_table() {
    check_complete(SOURCES, rows().iter().map(|row| row.setting), &REPORTS);
}

#[test]
fn zero_tiny_and_huge_durations_act_as_the_table_says() {
    check(&rows());
}

fn delays(odd: Duration) -> Effect {
    Box::pin(async move {
        let mock = MockFn::<(), u32>::new("slow");
        mock.script([after(odd, value(7))]);
        assert_eq!(mock.call(()).await, 7);
        Ok(())
    })
}

/// Runs what makes a runtime of its own, and is ready if it fails.
async fn fails(run: impl FnOnce() + Send + 'static) -> Result<(), Box<dyn std::error::Error>> {
    match thread::spawn(run).join() {
        Err(_) => Ok(()),
        Ok(()) => pending().await,
    }
}

fn cancels(odd: Duration) -> Effect {
    Box::pin(fails(move || {
        let driver = CancelEverywhere::new().virtual_limit(odd);
        let _points = driver.run(async || (), async |()| sleep(DAY).await, async |(), _| ());
    }))
}

fn simulates(odd: Duration) -> Effect {
    Box::pin(fails(move || {
        drop(sim(|| sleep(DAY)).seeds(1).virtual_limit(odd).run());
    }))
}

fn polls(odd: Duration) -> Effect {
    Box::pin(async move {
        let sim = sim(|| sleep(DAY)).seeds(1).virtual_limit(DAY * 2).poll_limit(odd);
        // Of the shortest, which aborts the process at most polls, it is enough that it is taken.
        if odd > Duration::from_nanos(1) {
            thread::spawn(move || drop(sim.run())).join().unwrap();
        }
        Ok(())
    })
}
