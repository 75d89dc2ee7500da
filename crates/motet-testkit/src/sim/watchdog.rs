//! Watches, from its own thread, that polls return.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use motet::sim::runner::Pulse;

/// Aborts the process if the run makes no progress for the limit.
///
/// A poll that does not return cannot be stopped from outside.
#[derive(Debug)]
pub(super) struct Watchdog {
    stop: Arc<(Mutex<Stop>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stop {
    NotYet,
    Now,
}

/// The number of checks per limit: a run is stuck only if all of them find no progress.
const LOOKS: u32 = 8;

impl Watchdog {
    /// Starts the watchdog; if no thread can be created, nothing is watched.
    pub(super) fn start(pulse: Arc<Pulse>, limit: Duration) -> Self {
        let stop = Arc::new((Mutex::new(Stop::NotYet), Condvar::new()));
        let stop_signal = Arc::clone(&stop);
        let watch = move || watch(&pulse, limit, &stop_signal);
        let thread = thread::Builder::new().name("motet-watchdog".to_owned()).spawn(watch).ok();
        Self { stop, thread }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = Stop::Now;
        self.stop.1.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(pulse: &Pulse, limit: Duration, stop_signal: &(Mutex<Stop>, Condvar)) {
    let (mut seen, mut looks) = (pulse.beats(), 0);
    let mut stop = stop_signal.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let waited = stop_signal.1.wait_timeout_while(stop, limit / LOOKS, |stop| *stop == Stop::NotYet);
        let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        stop = guard;
        if !timeout.timed_out() {
            return;
        }
        // Counts checks, not clocks: on a machine that slept, the poll did not run either.
        looks = if pulse.beats() == seen && !pulse.is_held() { looks + 1 } else { 0 };
        seen = pulse.beats();
        if looks >= LOOKS {
            abort(pulse, limit);
        }
    }
}

fn abort(pulse: &Pulse, limit: Duration) -> ! {
    let who = pulse.running().unwrap_or_else(|| "a task that was started with `tokio::spawn`".to_owned());
    // Written directly to standard error: the test harness would capture the message, and the process ends.
    let _ = writeln!(
        std::io::stderr(),
        "\nsimulation stuck: a poll of {who} has not returned for {limit:?} of real time; aborting"
    );
    std::process::abort()
}
