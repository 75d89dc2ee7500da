//! Policies around calls, each area in a file of its own: what do they cost a call that succeeds?

mod breaker;
mod limits;
mod pipeline;
mod retry;

use std::hint::black_box;

use tokio::runtime::{Builder, Runtime};

use crate::measure::both_of;
use crate::report::{Case, Cases};

/// In each run of the runtime, so that entering it weighs nothing.
const CALLS: u32 = 10_000;

pub(crate) fn run(cases: &mut Cases) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    retry::run(cases, &runtime);
    pipeline::run(cases, &runtime);
    breaker::run(cases);
    limits::run(cases);
}

/// What is called: ready, and not to be foreseen by the compiler.
async fn operation() -> Result<u64, Failed> {
    black_box(Ok(black_box(7)))
}

/// An error that every rival takes.
#[derive(Debug, Clone, PartialEq)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

/// Calls both, again and again.
fn compare<T, U>(
    runtime: &Runtime,
    case: &str,
    rival_name: &'static str,
    mut ours: impl AsyncFnMut() -> T,
    mut rival: impl AsyncFnMut() -> U,
) -> [Case; 2] {
    let (ours, rival) = both_of(
        CALLS,
        || {
            runtime.block_on(async {
                for _ in 0..CALLS {
                    black_box(ours().await);
                }
            });
        },
        || {
            runtime.block_on(async {
                for _ in 0..CALLS {
                    black_box(rival().await);
                }
            });
        },
    );
    Case::median_and_minimum(case, rival_name, ours, rival)
}
