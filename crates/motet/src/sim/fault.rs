use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::runner::{Act, Faults, Simulation, What, current};
use crate::rng::Rng;

/// The decision of the simulation for one pass through a fault point, created by [`fault!`](crate::fault).
///
/// Awaiting it waits for the decided time, and returns `true` if the program should fail here.
#[derive(Debug)]
#[must_use = "a fault point has no effect unless its result is used"]
pub struct Fault(Act);

impl Fault {
    /// Returns `true` if the program should fail here, without waiting: for code that cannot await.
    #[must_use]
    pub const fn fails(&self) -> bool {
        matches!(self.0, Act::Fail)
    }
}

impl IntoFuture for Fault {
    type Output = bool;
    type IntoFuture = FaultWait;

    fn into_future(self) -> FaultWait {
        FaultWait(self.0, None)
    }
}

/// Waits for the decided time. The output is `true` if the program should fail.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct FaultWait(Act, Option<Pin<Box<Sleep>>>);

impl Future for FaultWait {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        match self.0 {
            Act::Pass => Poll::Ready(false),
            Act::Fail => Poll::Ready(true),
            Act::Yield => {
                self.0 = Act::Pass;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Act::Delay(delay) => {
                let sleep = self.1.get_or_insert_with(|| Box::pin(tokio::time::sleep(delay)));
                sleep.as_mut().poll(cx).map(|()| false)
            }
        }
    }
}

#[doc(hidden)]
pub fn fault(point: &'static str) -> Fault {
    let Some(sim) = current() else { return Fault(Act::Pass) };
    let act = decide(&sim, point);
    sim.record(What::Fault(point, act));
    Fault(act)
}

fn decide(sim: &Simulation, point: &'static str) -> Act {
    if sim.plan().faults == Faults::Off || !coin(sim.plan().seed, point) {
        return Act::Pass;
    }
    // One pass in four has an effect, as in FoundationDB.
    match sim.draw_below(12) {
        0 => Act::Yield,
        1 => Act::Delay(Duration::from_millis(1 + sim.draw_below(1_000))),
        2 => Act::Fail,
        _ => Act::Pass,
    }
}

/// Returns a random bit that depends only on the seed and the name, and not on earlier draws.
fn coin(seed: u64, name: &str) -> bool {
    // FNV-1a, since the algorithm of the standard hasher may change.
    let hash = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    Rng::seeded(seed ^ hash).below(2) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_half_of_the_seeds_enable_each_fault_point() {
        for name in ["a", "b", "pool.connect"] {
            let heads = (0..1_000).filter(|seed| coin(*seed, name)).count();
            assert!((400..600).contains(&heads), "{name}: {heads} of 1000");
        }
    }
}
