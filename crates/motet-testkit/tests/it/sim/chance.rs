//! Randomness from the generator of the thread.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use motet::rng::{self, Rng};
use motet_testkit::sim::sim;
use tokio::task::yield_now;

use super::work;

/// The results of the body per seed, in order; a seed that runs twice has two.
fn of_each_seed<T>(seeds: u64, body: impl AsyncFn() -> T) -> Vec<T> {
    let seen = RefCell::new(Vec::new());
    sim(|| async {
        let made = body().await;
        seen.borrow_mut().push(made);
    })
    .seeds(0..seeds)
    .run();
    seen.into_inner()
}

#[test]
fn draws_repeat_under_a_seed_and_differ_between_seeds() {
    let drawn = of_each_seed(20, async || rng::with(Rng::next_u64));
    for twice in drawn.chunks(2) {
        assert_eq!(twice[0], twice[1], "the self-check runs each seed twice");
    }
    let mut firsts: Vec<_> = drawn.into_iter().step_by(2).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() == 20 || std::env::var_os("MOTET_SEED").is_some(), "{}", firsts.len());
}

#[test]
fn draws_of_a_program_do_not_change_its_schedule() {
    let order = async |draws: usize| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..3)
            .map(|task| {
                let order = Arc::clone(&order);
                work("notes", async move {
                    for _ in 0..4 {
                        for _ in 0..draws {
                            let _ = rng::with(Rng::next_u64);
                        }
                        order.lock().unwrap().push(task);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        order.lock().unwrap().clone()
    };
    assert_eq!(of_each_seed(20, async || order(0).await), of_each_seed(20, async || order(3).await));
}

#[test]
fn simulation_restores_the_seed_of_the_thread() {
    let _seeded = rng::seed_thread(5);
    sim(|| async {
        let _ = rng::with(Rng::next_u64);
    })
    .seeds(1)
    .run();
    assert_eq!(rng::with(Rng::next_u64), Rng::seeded(5).next_u64());
}
