//! Question: what do policies cost for a call that succeeds? Each area has its own file.

mod breaker;
mod limits;
mod pipeline;
mod retry;

use std::hint::black_box;

use tokio::runtime::{Builder, Runtime};

use crate::measure::both_of;
use crate::report::{Case, Cases};

/// The calls in each run of the runtime, so that the cost of entering it is not visible.
const CALLS: u32 = 10_000;

pub(crate) fn run(cases: &mut Cases) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    retry::run(cases, &runtime);
    pipeline::run(cases, &runtime);
    breaker::run(cases);
    limits::run(cases);
}

/// The guarded call, which is ready, and which the compiler cannot predict.
async fn operation() -> Result<u64, Failed> {
    black_box(Ok(black_box(7)))
}

/// An error that every library accepts.
#[derive(Debug, Clone, PartialEq)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

/// Calls both in alternating rounds.
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
