//! Tests of the workers of a queue.

mod ending;
mod keyed;
mod orders;
mod settling;

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The events, in order.
#[derive(Debug)]
struct Log<E>(Arc<Mutex<Vec<E>>>);

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Clone> Log<E> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn note(&self, event: E) {
        self.0.lock().unwrap().push(event);
    }

    fn read(&self) -> Vec<E> {
        self.0.lock().unwrap().clone()
    }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
