//! Watches, from a thread of its own, that polls return.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use motet::sim::runner::Pulse;

/// Aborts the process when the run has not gone on for as long as the limit.
///
/// Nothing less would do: a poll that does not return cannot be stopped from outside.
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

/// Looks in a limit: a run counts as stuck only when all of them found it where the first did.
const LOOKS: u32 = 8;

impl Watchdog {
    /// Starts to watch; where no thread can be had, nothing is watched.
    pub(super) fn start(pulse: Arc<Pulse>, limit: Duration) -> Self {
        let stop = Arc::new((Mutex::new(Stop::NotYet), Condvar::new()));
        let told = Arc::clone(&stop);
        let watch = move || watch(&pulse, limit, &told);
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

fn watch(pulse: &Pulse, limit: Duration, told: &(Mutex<Stop>, Condvar)) {
    let (mut seen, mut looks) = (pulse.beats(), 0);
    let mut stop = told.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let waited = told.1.wait_timeout_while(stop, limit / LOOKS, |stop| *stop == Stop::NotYet);
        let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        stop = guard;
        if !timeout.timed_out() {
            return;
        }
        // Counting looks, not clocks: a machine that slept in between has not run the poll either.
        looks = if pulse.beats() == seen && !pulse.is_held() { looks + 1 } else { 0 };
        seen = pulse.beats();
        if looks >= LOOKS {
            abort(pulse, limit);
        }
    }
}

fn abort(pulse: &Pulse, limit: Duration) -> ! {
    let who = pulse.running().unwrap_or_else(|| "a task that was spawned past the library".to_owned());
    // Straight to the file: the test harness would keep what is printed, and the process is about to go.
    let _ = writeln!(
        std::io::stderr(),
        "\nsimulation stuck: a poll of {who} has not returned for {limit:?} of real time; aborting"
    );
    std::process::abort()
}
