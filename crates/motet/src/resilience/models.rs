//! A model of the rate limiter's atomic under every order in which threads can meet, with loom: see
//! `src/task/models.rs`.

use std::process::Command;

use loom::sync::Arc;
use loom::thread;

use super::rate::gcra::Gcra;
use crate::sim::mutants;

/// Where the probe below finds the bug that it is to run with.
const PLANTED: &str = "MOTET_PLANTED_RATE";

#[test]
fn two_take_the_same_cell() {
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
        assert!(one != two, "of two cells, one was taken: {one}, or two: {two}");
        assert_eq!(gcra.available(100), u64::from(one));
    });
}

#[test]
fn a_planted_lost_update_goes_unnoticed() {
    let probe = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "resilience::models::two_take_the_same_cell"])
        .env(PLANTED, "rate.lost_update")
        .output()
        .unwrap();
    assert!(!probe.status.success(), "nobody finds it");
}
