//! Records of events for tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Counts the live values.
#[derive(Clone, Default)]
pub(crate) struct Live(Arc<AtomicUsize>);

/// Counted until it is dropped.
pub(crate) struct Alive(Live);

impl Live {
    pub(crate) fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::Relaxed);
        Alive(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The events, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// How often it happened.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|noted| **noted == what).count()
    }

    /// Notes it when dropped.
    pub(crate) fn at_drop(&self, what: impl Into<String>) -> Noted {
        Noted(self.clone(), what.into())
    }
}

/// Notes when it is dropped.
pub(crate) struct Noted(Log, String);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.note(std::mem::take(&mut self.1));
    }
}
