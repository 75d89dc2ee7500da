//! The demo, run as a program.

use serde_json::Value;

use crate::harness::{program, within};

#[tokio::test]
async fn demo_loses_nothing_and_prints_one_json_object() {
    let demo = program().args(["demo", "--events", "300", "--seed", "7", "--json"]).output();
    let output = within("the demo", demo).await.unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{message}");
    assert!(message.contains("seed 7") && message.contains("retries:"), "{message}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut names: Vec<_> = report.as_object().unwrap().keys().cloned().collect();
    names.sort_unstable();
    assert_eq!(names.join(" "), "accepted dead delivered duplicates events_per_s lost p50_ms p99_ms retried");
    assert_eq!((&report["accepted"], &report["delivered"]), (&300.into(), &300.into()));
    assert_eq!((&report["lost"], &report["dead"]), (&0.into(), &0.into()));
    // 18 % of attempts fail by design: without retries the demo would show nothing.
    assert!(report["retried"].as_u64().unwrap() > 20, "{report}");
}

#[tokio::test]
async fn demo_prints_a_table_with_one_line_per_figure() {
    let demo = program().args(["demo", "--events", "20"]).output();
    let output = within("the demo", demo).await.unwrap();
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = table.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(
        names,
        ["accepted", "delivered", "retried", "dead", "duplicates", "lost", "events/s", "p50", "p99"]
    );
}
