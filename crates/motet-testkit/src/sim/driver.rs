//! A run: a new runtime, the body under a hook, and the limit of virtual time.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use motet::sim::runner::{Installed, Record, RunPlan, RunProblem, panic_message};
use motet::sim::{PollKind, TaskHook};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{coop, yield_now};
use tokio::time::{Sleep, sleep};

use super::builder::Io;
use super::ending::{self, Leftovers};

/// The record of a run, and the tasks that outlived it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) record: Record,
    pub(super) leftovers: Leftovers,
}

pub(super) fn run_once<F: Future<Output = ()>>(
    plan: RunPlan,
    virtual_limit: Duration,
    io: Io,
    site: &'static Location<'static>,
    body: &impl Fn() -> F,
) -> Outcome {
    let sim = Installed::new(plan);
    let runtime = runtime(io);
    // A destructor that panics during the teardown of a failed run must not replace the report.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            sim.start(measure_budget().await);
            let whole = async {
                hooked("body", site, async { body().await }).await;
                ending::leftovers(&sim).await
            };
            Driver {
                sim: &sim,
                whole: pin!(whole),
                gate: None,
                limit: pin!(sleep(virtual_limit)),
                phase: Phase::Running,
            }
            .await
        })
    }));
    // Inside of the runtime, whose clock is virtual.
    let within = runtime.enter();
    let leftovers = ran.unwrap_or_else(|payload| {
        let message = panic_message(&*payload).to_owned();
        sim.fail(RunProblem::Panic { task: "body".to_owned(), message });
        Leftovers::default()
    });
    // Before the drop of the runtime: the drops in it are not events of the run.
    let record = sim.finish();
    drop(within);
    drop(runtime);
    Outcome { record, leftovers }
}

pub(crate) fn runtime(io: Io) -> Runtime {
    let mut builder = Builder::new_current_thread();
    match io {
        Io::Refused => builder.enable_time(),
        Io::Enabled => builder.enable_all(),
    };
    #[expect(
        clippy::expect_used,
        reason = "without a runtime there is no test, and no caller who could help"
    )]
    builder.start_paused(true).build().expect("tokio makes a runtime for the simulation")
}

/// Polls a future as a task of the current simulation.
pub(crate) async fn hooked<F: Future>(
    name: &'static str,
    site: &'static Location<'static>,
    future: F,
) -> F::Output {
    let mut hook = TaskHook::new(name, site, PollKind::Work);
    let mut future = pin!(future);
    poll_fn(|cx| hook.poll(cx, |cx| future.as_mut().poll(cx))).await
}

/// Returns the coop budget of one poll, so that the simulation can reduce the budget of a
/// poll to a few operations.
pub(crate) async fn measure_budget() -> usize {
    // Bounds the count on a thread without a budget.
    const NONE: usize = 4_096;
    // In a separate poll, with a full budget, which is used up after it.
    yield_now().await;
    let budget = poll_fn(|cx| {
        let mut operations = 0;
        while operations < NONE && coop::has_budget_remaining() {
            if let Poll::Ready(operation) = coop::poll_proceed(cx) {
                operation.made_progress();
            }
            operations += 1;
        }
        Poll::Ready(operations)
    })
    .await;
    yield_now().await;
    budget
}

/// Runs until the run ends, fails, or exceeds its virtual time.
struct Driver<'a, F> {
    sim: &'a Installed,
    whole: Pin<&'a mut F>,
    gate: Option<Arc<Gate>>,
    limit: Pin<&'a mut Sleep>,
    phase: Phase,
}

enum Phase {
    Running,
    /// After the limit: work that still runs exceeds its time. If none runs until twice the limit, it is a deadlock.
    Overtime,
}

/// Notes whether the body itself was woken. A poll of the driver because of the limit must not poll the body, which would
/// then look runnable.
struct Gate {
    woken: AtomicBool,
    driver: Waker,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.driver.wake_by_ref();
    }
}

impl<F: Future<Output = Leftovers>> Future for Driver<'_, F> {
    type Output = Leftovers;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Leftovers> {
        let this = &mut *self;
        let gate = this.gate.get_or_insert_with(|| {
            // The body is alone in its runtime, so it is polled with one waker.
            this.sim.set_driver(cx.waker());
            Arc::new(Gate { woken: AtomicBool::new(true), driver: cx.waker().clone() })
        });
        // Polled first: without budget the timer would not be checked.
        while this.limit.as_mut().poll(cx).is_ready() {
            match this.phase {
                Phase::Running => {
                    this.sim.set_out_of_time();
                    this.phase = Phase::Overtime;
                    let end = this.limit.deadline() + this.sim.now();
                    this.limit.as_mut().reset(end);
                }
                Phase::Overtime => {
                    this.sim.fail(RunProblem::Deadlock { since: this.sim.last_work() });
                    break;
                }
            }
        }
        if !this.sim.has_failed() && gate.woken.swap(false, Ordering::Acquire) {
            let waker = Waker::from(Arc::clone(gate));
            if let Poll::Ready(leftovers) = this.whole.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(leftovers);
            }
        }
        if this.sim.has_failed() { Poll::Ready(Leftovers::default()) } else { Poll::Pending }
    }
}
