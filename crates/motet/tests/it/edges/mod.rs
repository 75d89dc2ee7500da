//! Where promises are hardest to keep.

mod busy;
mod gone;
mod truth;

use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);

/// Runs on a thread of its own, which is left behind when it hangs: a guard of the tests, and no measure.
pub(crate) fn bounded<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, told) = mpsc::channel();
    std::thread::spawn(move || done.send(what()));
    match told.recv_timeout(SECOND * 60) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("it panicked"),
    }
}

pub(crate) fn workers(n: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(n).enable_all().build().unwrap()
}

pub(crate) fn one() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Panics when it is dropped.
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("bomb");
        }
    }
}
