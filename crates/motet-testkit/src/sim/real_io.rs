use std::sync::Arc;

use motet::sim::runner::{Pulse, current};

/// Waits for something real, with the virtual clock held still.
///
/// A paused clock jumps to the next timer whenever no task can run. While a task waits for another thread or
/// a socket, that would let every timeout fire at once. As long as this future runs, the clock does not
/// advance by itself. `spawn_blocking` alone needs no such guard: tokio holds the clock for it.
///
/// What comes from outside comes when it comes, so a simulation that depends on it needs
/// [`SelfCheck::Off`](super::SelfCheck::Off); sockets need [`with_io`](super::Sim::with_io). The guard takes
/// a thread of tokio's blocking pool while it runs.
///
/// # Cancel safety
/// As safe as the future itself: when dropped, it lets the clock go.
///
/// # Panics
/// Outside a tokio runtime.
///
/// # Examples
/// ```
/// use motet_testkit::sim::{SelfCheck, real_io, sim};
/// use std::time::Duration;
/// use tokio::{sync::oneshot, time::timeout};
///
/// sim(|| async {
///     let (answer, asked) = oneshot::channel();
///     std::thread::spawn(move || answer.send(42));
///     let answered = timeout(Duration::from_secs(1), real_io(asked)).await;
///     assert_eq!(answered.expect("no virtual second passes"), Ok(42));
/// })
/// .self_check(SelfCheck::Off)
/// .seeds(3)
/// .run();
/// ```
pub async fn real_io<F: Future>(future: F) -> F::Output {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let _watched = current().map(|sim| Held::new(&sim.plan().pulse));
    let clock = tokio::task::spawn_blocking(move || {
        // Ends when the sender goes, on whatever path.
        let _ = held.recv();
    });
    let output = future.await;
    drop(release);
    // So that the clock goes on from here, not from some time later.
    let _ = clock.await;
    output
}

/// Tells the watchdog that waiting is no sign of a loop.
struct Held(Arc<Pulse>);

impl Held {
    fn new(pulse: &Arc<Pulse>) -> Self {
        pulse.hold();
        Self(Arc::clone(pulse))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release();
    }
}
