//! A run: polls the operation without budget at first, then with a budget of one operation per poll, and drops it at
//! the given suspension.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use motet::sim::runner::{
    Faults, ForeignTasks, Installed, Interleaving, Panics, Pulse, Record, RunPlan, panic_message,
};
use tokio::task::{coop, yield_now};
use tokio::time::{sleep, timeout};

use super::{CancelEverywhere, Outcome};
use crate::sim::{Cause, Io, alive, hooked, measure_budget, runtime, settled, write_events};

/// Returns the number of suspensions, or the report of a failure.
pub(super) fn run_once<S, T>(
    limits: &CancelEverywhere,
    site: &'static Location<'static>,
    drop_after: Option<usize>,
    setup: &impl AsyncFn() -> S,
    operation: &impl AsyncFn(&S) -> T,
    invariant: &impl AsyncFn(&S, Outcome<T>),
) -> Result<usize, String> {
    let sim = Installed::new(RunPlan {
        seed: 0,
        interleaving: Interleaving::Plain,
        faults: Faults::Off,
        panics: Panics::Fail,
        foreign: ForeignTasks::Allow,
        step_limit: u64::MAX,
        pulse: Arc::new(Pulse::default()),
    });
    let runtime = runtime(Io::Refused);
    let (phase, suspensions) = (Cell::new(Phase::Setup), Cell::new(0));
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let budget = measure_budget().await;
            sim.start(budget);
            let state = timeout(limits.virtual_limit, setup())
                .await
                .map_err(|_| "the set-up does not end within the limit of virtual time".to_owned())?;
            // The operation starts with a full budget, whatever the setup used.
            yield_now().await;
            phase.set(Phase::Operation);
            let operation = hooked("operation", site, operation(&state));
            let outcome = drop_at(limits, drop_after, budget, operation, &suspensions).await?;
            phase.set(Phase::Invariant);
            timeout(limits.virtual_limit, invariant(&state, outcome))
                .await
                .map_err(|_| "the invariant does not end within the limit of virtual time".to_owned())?;
            phase.set(Phase::Ending);
            // The tasks that belong to the state end with it.
            drop(state);
            // A child that never ends must not block the test: it counts as alive.
            let _ = timeout(limits.virtual_limit, settled()).await;
            let left = alive(&sim);
            if left.is_none() { Ok(()) } else { Err(Cause::from(&left).to_string()) }
        })
    }));
    // Inside of the runtime, whose clock is virtual.
    let within = runtime.enter();
    let record = sim.finish();
    drop(within);
    drop(runtime);
    let wrong = match ran {
        Err(payload) => format!("{} panicked: {}", phase.get(), panic_message(&*payload)),
        Ok(Err(wrong)) => wrong,
        Ok(Ok(())) => match &record.failed {
            None => return Ok(suspensions.get()),
            Some(failed) => Cause::from(failed.problem.clone()).to_string(),
        },
    };
    Err(report(&wrong, drop_after, suspensions.get(), &record))
}

async fn drop_at<T>(
    limits: &CancelEverywhere,
    drop_after: Option<usize>,
    budget: usize,
    operation: impl Future<Output = T>,
    suspensions: &Cell<usize>,
) -> Result<Outcome<T>, String> {
    let mut operation = pin!(operation);
    let mut limit = pin!(sleep(limits.virtual_limit));
    poll_fn(|cx| {
        if drop_after == Some(suspensions.get()) {
            return Poll::Ready(Ok(Outcome::Dropped { suspensions: suspensions.get() }));
        }
        // Before the budget is used: the timer needs one unit.
        if limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(
                Err("the operation does not end within the limit of virtual time".to_owned()),
            );
        }
        // No budget in the first poll: with one unit, the first await that is ready would never suspend.
        let left = usize::from(suspensions.get() > 0);
        for _ in left..budget {
            if let Poll::Ready(operation) = coop::poll_proceed(cx) {
                operation.made_progress();
            }
        }
        if let Poll::Ready(output) = operation.as_mut().poll(cx) {
            return Poll::Ready(match drop_after {
                None => Ok(Outcome::Completed(output)),
                // The first run had a suspension that this run does not have, so it was not tested.
                Some(k) => Err(format!(
                    "the operation goes differently from run to run: it suspended at least {k} times in the \
                     first, and has ended after {} in this one; look for state that is shared between runs, a \
                     thread, a real clock, or a `select!` without `biased`",
                    suspensions.get()
                )),
            });
        }
        suspensions.set(suspensions.get() + 1);
        if suspensions.get() > limits.max_points {
            return Poll::Ready(Err(format!("the operation suspends more than {} times", limits.max_points)));
        }
        if drop_after == Some(suspensions.get()) {
            return Poll::Ready(Ok(Outcome::Dropped { suspensions: suspensions.get() }));
        }
        Poll::Pending
    })
    .await
}

/// The part of a run.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Setup,
    Operation,
    Invariant,
    Ending,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "the set-up",
            Self::Operation => "the operation",
            Self::Invariant => "the invariant",
            Self::Ending => "the drop of the state",
        })
    }
}

fn report(wrong: &str, drop_after: Option<usize>, suspensions: usize, record: &Record) -> String {
    let mut report = match drop_after {
        Some(k) => format!("cancel_everywhere, dropped after suspension {k}: {wrong}\n"),
        None => format!("cancel_everywhere, not dropped, after {suspensions} suspensions: {wrong}\n"),
    };
    let _ = write_events(&mut report, &record.trace, &record.tasks).and_then(|()| {
        let live = record.tasks.iter().filter(|task| task.end.is_none());
        live.into_iter().try_for_each(|task| writeln!(report, "alive: {task}"))
    });
    report
}
