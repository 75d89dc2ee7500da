use std::sync::Arc;

use motet::sim::runner::{Pulse, current};

/// Awaits a future of the real world, with the virtual clock stopped.
///
/// A paused clock jumps to the next timer when no task can run. While a task waits for another thread or a socket,
/// every timeout would fire immediately. While this future runs, the clock does not advance. `spawn_blocking` needs no
/// such guard: tokio stops the clock for it.
///
/// External events do not depend on the seed, so a simulation with them needs
/// [`SelfCheck::Off`](super::SelfCheck::Off); sockets need [`with_io`](super::Sim::with_io). The guard uses a thread of
/// tokio's blocking pool while it runs.
///
/// # Cancel safety
/// As safe as the future itself. When it is dropped, the clock runs again.
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
        // Ends when the sender is dropped, on every path.
        let _ = held.recv();
    });
    let output = future.await;
    drop(release);
    // Waits for the thread, so that the clock runs again when this function returns.
    let _ = clock.await;
    output
}

/// Informs the watchdog that waiting is not a stuck poll.
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
