//! motet beside the queues of Python's asyncio: the same number of producers and consumers, the same capacity and items.
//!
//! The Python side runs before motet and after it, and the better result counts. Python runs in one thread; motet has two
//! workers, as in `shared`. The orders are compared as well: motet keeps the order of arrival within a priority, and asyncio
//! compares the items.

#![allow(clippy::disallowed_methods, reason = "the tasks of a benchmark are awaited one by one")]

use std::path::Path;
use std::process::{Command, Stdio};

use motet::queue::{Receiver, Sender, bounded, lifo, priority};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::measure::{Cost, one_of};
use crate::report::{Case, Cases, say};

const CAPACITY: usize = 1024;
const ITEMS: u64 = 200_000;
/// Why making a queue cannot fail.
const VALID: &str = "the capacity is valid";

type Make = fn() -> (Sender<u64>, Receiver<u64>);

/// Each queue of asyncio, its name in the tables, and the queue of motet.
const QUEUES: [(&str, &str, Make); 3] = [
    ("Queue", "asyncio.Queue", || bounded(CAPACITY).expect(VALID)),
    ("PriorityQueue", "asyncio.PriorityQueue", || priority(CAPACITY, |item| *item as i64).expect(VALID)),
    ("LifoQueue", "asyncio.LifoQueue", || lifo(CAPACITY).expect(VALID)),
];

/// Without Python, it prints a notice and measures nothing.
pub(super) fn run(cases: &mut Cases) {
    if std::env::var("MOTET_COMPARE_ONLY").is_ok_and(|only| !"asyncio".contains(&only)) {
        return;
    }
    let Some(before) = python() else {
        say!("queue: no comparison with asyncio, for python3 could not be run");
        return;
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let ours: Vec<_> = before.iter().map(|row| ours(&runtime, row)).collect();
    // Twice, since the machine may be busy at one of the times.
    let after = python().unwrap_or_default();
    for (at, (row, ours)) in before.iter().zip(ours).enumerate() {
        let Some((shape, rival_name, ours)) = ours else { continue };
        let cost = |row: &Value, name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        let best = |name| after.get(at).map_or(f64::NAN, |again| cost(again, name)).min(cost(row, name));
        // The allocations of Python are not counted.
        let rival = Cost::figure(best("ns"), best("minimum"));
        cases.extend(Case::median_and_minimum(&shape, rival_name, ours, rival));
    }
}

/// Measures motet in a case of Python.
fn ours(runtime: &Runtime, row: &Value) -> Option<(String, &'static str, Cost)> {
    let (_, rival_name, make) = QUEUES.iter().find(|(queue, ..)| row["queue"] == *queue)?;
    let shape = row["case"].as_str()?;
    let pairs = if shape == "1p1c" { 1 } else { 4 };
    let items = u32::try_from(ITEMS).expect("few enough");
    let ours = one_of(items, || all_through(runtime, *make, pairs));
    Some((format!("{shape}, {CAPACITY} shared"), *rival_name, ours))
}

/// Runs the Python side, which prints a row for each case.
fn python() -> Option<Vec<Value>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/queue.py");
    let ran = Command::new("python3").arg(script).stderr(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(ran.stdout).ok().filter(|_| ran.status.success())?;
    text.lines().map(|line| serde_json::from_str(line).ok()).collect()
}

fn all_through(runtime: &Runtime, make: Make, pairs: u64) {
    let (sender, receiver) = make();
    let consumers: Vec<_> = (0..pairs)
        .map(|_| {
            let receiver = receiver.clone();
            runtime.spawn(async move {
                let mut count = 0;
                while receiver.recv().await.is_some() {
                    count += 1;
                }
                count
            })
        })
        .collect();
    for _ in 0..pairs {
        let sender = sender.clone();
        runtime.spawn(async move {
            for number in 0..ITEMS / pairs {
                sender.send(number & 7).await.expect("a receiver is there");
            }
        });
    }
    drop((sender, receiver));
    let received: u64 =
        consumers.into_iter().map(|consumer| runtime.block_on(consumer).expect("no consumer panics")).sum();
    assert_eq!(received, ITEMS, "items were lost");
}
